-- reconcile: an act, in the stream before its effect. The effect are moves of jobs, by other verbs.
-- ARGV: now, transitions_max, actor, reason, target. Reply: the id of the act
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include controls
return new_act("reconcile", ARGV[5], 0, ARGV[3], ARGV[4], now_ms, { target = ARGV[5] }).id
