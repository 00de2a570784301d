-- complete: executing -> completed. Takes any number of delivery tags.
-- ARGV: now, transitions_max, tags. Reply, for each tag: COMPLETED | RETRIED | LEASE_LOST
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include complete_job
local words = {}
for i = 3, #ARGV do words[#words + 1] = complete_job(ARGV[i]) end
write_counts()
return words
