-- expire: executing -> available | discarded, for all jobs of holders whose process is gone.
-- ARGV: now, transitions_max, max_kills, reason, holders. Reply: how many jobs were taken back.
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local max_kills, reason = tonumber(ARGV[3]), ARGV[4]
--@include timers
local taken = 0
for i = 5, #ARGV do taken = taken + expire_holder(ARGV[i], now_ms, max_kills, reason) end
write_counts()
return taken
