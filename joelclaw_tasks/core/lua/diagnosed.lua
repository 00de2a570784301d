-- diagnosed: ends a diagnosis: keeps what came of it, and for how long it goes on to hold what failed.
-- ARGV: now, id, for how long it holds from now (ms), record, names of failures.
-- Reply: 1 | 0 (it is gone: nothing was kept)
--@include keys
--@include clock
local now_ms, id, hold_ms = clock_ms(ARGV[1]), ARGV[2], tonumber(ARGV[3])
if redis.call("EXISTS", diagnosis_key(id)) == 0 then return 0 end
redis.call("HSET", diagnosis_key(id), "record", ARGV[4])
for i = 5, #ARGV do
  local held = redis.call("GET", diagnosed_key(ARGV[i])) or ""
  if string.match(held, "^(%S+)") == id then -- a later one may hold it by now
    held = id .. " " .. string.format("%.0f", now_ms + hold_ms)
    redis.call("SET", diagnosed_key(ARGV[i]), held, "PX", hold_ms)
  end
end
return 1
