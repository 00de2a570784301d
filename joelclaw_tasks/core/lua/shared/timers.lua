-- timers: everything that waits for a clock, in one sorted set of "kind|name" by due time.
--@include job
--@include lanes
--@lazy due
-- Fires what is due, at most 100 a call. Answers in how many milliseconds the next timer is due, or nil.
-- Live workers call this at least every third of a lease. A longer silence means that Redis was away and
-- nobody could renew: then no lease expires before its holder had time to come back.
local function fire_timers(now_ms, max_kills, lease_ms)
  local seen_at = tonumber(redis.call("GET", seen_at_key) or 0)
  local silence_ms = seen_at > 0 and now_ms - seen_at or 0
  local was_away = silence_ms > lease_ms / 2
  -- Not at every look: a write is one for the append-only file too.
  if seen_at == 0 or silence_ms > lease_ms / 6 or silence_ms < 0 then redis.call("SET", seen_at_key, now) end
  if was_away then
    for _, holder in ipairs(redis.call("HKEYS", holders_key)) do
      redis.call("ZADD", timers_key, "XX", "GT", now_ms + lease_ms, "lease|" .. holder)
    end
  end
  local next_due = redis.call("ZRANGE", timers_key, 0, 0, "WITHSCORES")[2]
  if next_due and tonumber(next_due) <= now_ms then
    next_due = fire_due(now_ms, max_kills, lease_ms, was_away)
  end
  return next_due and math.max(0, tonumber(next_due) - now_ms)
end
