-- diagnose: begins a diagnosis, unless another one holds what failed. Of two at once one goes on.
-- ARGV: now, for how long it holds (ms), for how long it is kept (ms), most that are kept, id of a diagnosis
-- whose holds do not count ("": none, "*": all), how many names must be free, record, those names, and the
-- names that it holds then.
-- Reply: {id of the new one, 1} | {id of the one that holds, 0}
--@include keys
--@include clock
local now_ms = clock_ms(ARGV[1])
local hold_ms, keep_ms, most, instead_of = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local first = 8 + tonumber(ARGV[6]) -- of those that it holds
for i = 8, first - 1 do
  local held = redis.call("GET", diagnosed_key(ARGV[i]))
  local id, until_ms = string.match(held or "", "^(%S+) (%d+)$")
  if id and tonumber(until_ms) > now_ms and instead_of ~= "*" and instead_of ~= id then return { id, 0 } end
end

local number = redis.call("HINCRBY", diagnoses_key, "last", 1)
local id = "d" .. number
redis.call("HSET", diagnosis_key(id), "record", ARGV[7])
redis.call("PEXPIRE", diagnosis_key(id), keep_ms)
redis.call("DEL", diagnosis_key("d" .. (number - most)))
for i = first, #ARGV do
  local held = id .. " " .. string.format("%.0f", now_ms + hold_ms)
  redis.call("SET", diagnosed_key(ARGV[i]), held, "PX", hold_ms)
end
return { id, 1 }
