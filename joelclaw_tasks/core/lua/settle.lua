-- settle: `complete` and then `claim` in one call, which is what a busy worker does all the time.
-- KEYS and ARGV as claim.lua, then the delivery tags. Reply: a word for each tag, then the parts of claim's.
--@include keys
--@include who_holds
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include complete_job
--@include claim_jobs
local reply = {}
for i = 8, last_queue do claims_from[ARGV[i]] = true end
for i = last_queue + #KEYS, #ARGV do reply[#reply + 1] = complete_job(ARGV[i]) end
claims_from = {}
claim_jobs(reply)
write_counts()
return reply
