-- clock: the time in epoch milliseconds, Redis's own unless a test passes one, and what of a millisecond
-- has passed since: jobs that arrive in the same one still start in the order in which they came.
local function clock_ms(given)
  if given ~= "" then return tonumber(given), 0 end
  local time = redis.call("TIME")
  local micros = tonumber(time[2])
  return tonumber(time[1]) * 1000 + math.floor(micros / 1000), (micros % 1000) / 1000
end
