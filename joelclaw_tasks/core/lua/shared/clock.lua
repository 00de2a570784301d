-- clock: the time in epoch milliseconds. Redis's own, unless a test passes one.
local function clock_ms(given)
  if given ~= "" then return tonumber(given) end
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
