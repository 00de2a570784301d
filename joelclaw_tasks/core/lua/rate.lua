-- rate: sets how many jobs may start at a gate in a time; it acts on queued work from now on.
-- ARGV and reply as in shared/bounds.lua; a value is "<limit> <period_ms> <burst>", the word is RATED.
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include bounds
return set_bounds("rate", rates_key, "RATED")
