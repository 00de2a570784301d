-- health: keeps what one look of the health pulse found. The state turns when enough looks in a row say so.
-- ARGV: now, check, id of the look, status, detail, latency_ms ("": nothing answered), every_ms, how many
-- looks make it worse, how many make it healthy again, how often the check had to be started again.
-- Reply: {state, since_at, the state that people were told or ""}. The same look twice counts once. While
-- nobody looks the state is "unseen".
--@include keys
--@include clock
local now_ms = clock_ms(ARGV[1])
local check, look, status, detail, latency_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local every_ms, fails, passes, restarts = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local HOUR_MS, KEPT_MS, MOST_TURNS = 3600000, 2592000000, 5000
local known, turns, hours = health_check_key(check), health_turns_key(check), health_hours_key(check)
local found = redis.call("HMGET", known, "state", "since_at", "told", "look", "checked_at", "away", "away_at")
local state, since_at, told = found[1] or "unseen", found[2] or "", found[3] or ""
local checked_at, away, away_at =
  tonumber(found[5] or nil), tonumber(found[6] or 0), tonumber(found[7] or nil)
if found[4] == look then return { state, since_at, told } end
-- A clock that was moved back must not turn the history around.
if checked_at and now_ms < checked_at then now_ms = checked_at end

local function written(at) return string.format("%.0f", at) end

local function turn(to, at, why)
  -- Turns of one millisecond would be ordered by their names.
  if since_at ~= "" then at = math.max(at, tonumber(since_at) + 1) end
  state, since_at, away = to, written(at), 0
  redis.call("ZADD", turns, since_at, since_at .. "|" .. to .. "|" .. why)
  -- The last one before the time that is kept says how things were when it begins.
  local floor =
    redis.call("ZREVRANGEBYSCORE", turns, written(at - KEPT_MS), "-inf", "WITHSCORES", "LIMIT", 0, 1)
  if floor[2] then redis.call("ZREMRANGEBYSCORE", turns, "-inf", "(" .. floor[2]) end
  redis.call("ZREMRANGEBYRANK", turns, 0, -MOST_TURNS - 1)
end

-- Nobody looked for a while: of that time nothing is known, and nothing is said of why.
if checked_at and now_ms - checked_at > 2.5 * every_ms then
  away = 0
  if state ~= "unseen" then turn("unseen", checked_at + every_ms, "") end
end

if status == state then
  away = 0
else
  away = away + 1
  if away == 1 then away_at = now_ms end
  local enough = fails
  if status == "healthy" then enough = state == "unseen" and 1 or passes end
  if away >= enough then turn(status, away_at or now_ms, detail) end
end
redis.call("HSET", known, "state", state, "since_at", since_at, "look", look, "checked_at", written(now_ms),
  "away", away, "away_at", written(away_at or now_ms), "status", status, "detail", detail,
  "latency_ms", ARGV[6], "every_ms", every_ms, "restarts", restarts)

local hour = written(math.floor(now_ms / HOUR_MS))
local before = redis.call("HGET", hours, hour)
local looks, bad, again, answers, sum, most = 0, 0, 0, 0, 0, 0
if before then
  looks, bad, again, answers, sum, most = string.match(before, "^(%d+)|(%d+)|(%d+)|(%d+)|([%d.]+)|([%d.]+)$")
end
if status ~= "healthy" then bad = bad + 1 end
if latency_ms then answers, sum, most = answers + 1, sum + latency_ms, math.max(most, latency_ms) end
redis.call("HSET", hours, hour,
  string.format("%d|%d|%d|%d|%.1f|%.1f", looks + 1, bad, again + restarts, answers, sum, most))
if not before then
  for _, each in ipairs(redis.call("HKEYS", hours)) do
    if tonumber(each) <= tonumber(hour) - KEPT_MS / HOUR_MS then redis.call("HDEL", hours, each) end
  end
end
for _, key in ipairs({ known, turns, hours }) do redis.call("PEXPIRE", key, KEPT_MS + 24 * HOUR_MS) end
return { state, since_at, told }
