-- explain: which gate of each lane is shut now, by the very rules of `claim`; changes nothing.
-- ARGV: now, lanes. Reply: {now, for each lane the line of its first shut gate (see gates.lua) or ""}
--@include keys
--@include clock
local now_ms = clock_ms(ARGV[1])
--@include lanes
local reply = { string.format("%.0f", now_ms) }
for i = 2, #ARGV do
  local lane = read_lane(ARGV[i])
  reply[i] = lane and first_shut_gate(lane) or ""
end
return reply
