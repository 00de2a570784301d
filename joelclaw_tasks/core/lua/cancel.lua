-- cancel: scheduled | available | retryable -> cancelled. A running job is asked to stop: its worker hears of
-- it, and however it ends then, it ends as cancelled.
-- ARGV: now, transitions_max, actor, reason, ids.
-- Reply, for each id: CANCELLED | ASKED | MISSING | WRONG_STATE
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include lanes
--@include cancel_job
local words = {}
for i = 5, #ARGV do words[#words + 1] = cancel_job(ARGV[i], ARGV[3], ARGV[4]) end
write_counts()
return words
