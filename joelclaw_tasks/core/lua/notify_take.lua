-- notify_take: what goes to a sink next, for the one who delivers to it now; nobody else does meanwhile.
-- ARGV: now, sink, holder, lease_ms, most an hour (0: any number), only_urgent (0|1), most at once (0: only
-- let go of the sink), how many may go one by one. Reply: {id, notification as JSON, ...}
--@include keys
--@include clock
local now_ms = clock_ms(ARGV[1])
local sink, holder, lease_ms, an_hour = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local only_urgent, most, singly = ARGV[6] == "1", tonumber(ARGV[7]), tonumber(ARGV[8])
local HOUR_MS, DAY_MS = 3600000, 86400000
local state = redis.call("HMGET", notify_sink_key(sink), "holder", "held_until", "away_until")
local held_until, away_until = tonumber(state[2] or nil), tonumber(state[3] or nil)

-- Moments too far ahead are from before the clock was moved back.
local function lies_ahead(at, most_ms) return at and now_ms < at and at - now_ms <= most_ms end

if state[1] and state[1] ~= holder and lies_ahead(held_until, lease_ms) then return {} end

local function let_go()
  redis.call("HDEL", notify_sink_key(sink), "holder", "held_until")
  return {}
end

if most == 0 or lies_ahead(away_until, DAY_MS) then return let_go() end
redis.call("ZREMRANGEBYSCORE", notify_sent_key(sink), "-inf", string.format("%.0f", now_ms - HOUR_MS))
if an_hour > 0 then
  local left = an_hour - redis.call("ZCARD", notify_sent_key(sink))
  if left <= 0 then return let_go() end
  -- A quarter of the hour's messages is for what is critical.
  only_urgent = only_urgent or left <= math.floor(an_hour / 4)
end

local ids = {}
for _, id in ipairs(redis.call("ZRANGE", notify_outbox_key(sink), 0, -1)) do
  -- An id begins with its level.
  if #ids < most and (not only_urgent or string.sub(id, 1, 1) == "3") then ids[#ids + 1] = id end
end
if #ids == 0 then return let_go() end
local lease_until = string.format("%.0f", now_ms + lease_ms)
redis.call("HSET", notify_sink_key(sink), "holder", holder, "held_until", lease_until)
local taken = {}
for i = 1, #ids > singly and #ids or 1 do
  taken[2 * i - 1] = ids[i]
  taken[2 * i] = redis.call("HGET", notify_notes_key(sink), ids[i]) or ""
end
return taken
