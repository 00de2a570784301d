-- discard: executing -> discarded, the dead letter, with its failure.
-- ARGV: now, transitions_max, tag, error, signature, place, traceback.
-- Reply: DISCARDED | RETRIED | CANCELLED | LEASE_LOST
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local tag = ARGV[3]
local failure = { error = ARGV[4], signature = ARGV[5], place = ARGV[6], traceback = ARGV[7] }
--@include bury
--@include leave
local job = leased_job(tag)
if not job then return "LEASE_LOST" end
local entry = run_times(job, now_ms)
local gates = end_lease(job)
local word = succeed(job, now_ms, entry)
if not word then bury(job, "discard", now_ms, failure, entry) end
pass_on(gates)
write_counts()
return word or "DISCARDED"
