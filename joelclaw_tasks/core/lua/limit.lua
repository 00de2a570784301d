-- limit: sets how many places a gate has at once; it acts on queued work, never on what runs.
-- ARGV and reply as in shared/bounds.lua; a value is a number, the word is LIMITED.
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include bounds
return set_bounds("limit", limits_key, "LIMITED")
