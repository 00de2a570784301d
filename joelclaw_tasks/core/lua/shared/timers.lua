-- timers: everything that waits for a clock, in one sorted set of "kind|name" by due time.
--@include job
--@include lanes
--@lazy due
-- Fires what is due, at most 100 a call. Answers in how many milliseconds the next timer is due, or nil.
-- `is_too_early`: no lease expires; nil: as `was_away` says.
local function fire_timers(now_ms, max_kills, lease_ms, is_too_early)
  local next_due = redis.call("ZRANGE", timers_key, 0, 0, "WITHSCORES")[2]
  if next_due and tonumber(next_due) <= now_ms then
    next_due = fire_due(now_ms, max_kills, lease_ms, is_too_early)
  end
  return next_due and math.max(0, tonumber(next_due) - now_ms)
end
