-- notify: decides what becomes of a notification: it goes to every sink, waits for the digest, or ends here.
-- ARGV: now, id, cause, level (0 to 3), change ("", opened, changed, resolved), when what was opened ends
-- by itself (0: it does not), end of the quiet hours ("": none now), cooldown_ms, the notification as JSON,
-- then the sinks. Reply: told | held | muted | repeated | nothing
--@include keys
--@include clock
local now_ms = clock_ms(ARGV[1])
local id, cause, level, change = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local ends_at, quiet_until, cooldown_ms, note = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local DAY_MS, LONGEST_WAIT_MS, CRITICAL = 86400000, 14400000, 3
local REMEMBERED_MS, MOST_WAITING, MOST_LOGGED = 30 * DAY_MS, 1000, 1000
local known = notify_cause_key(cause)

-- A moment in the future is from before the clock was moved back.
local function within(at, span_ms) return at and now_ms >= at and now_ms - at < span_ms end

local function finish(word)
  local is_open_now = redis.call("HEXISTS", known, "open_until") == 1
  redis.call("PEXPIRE", known, is_open_now and REMEMBERED_MS or 2 * DAY_MS)
  redis.call("XADD", notify_log_key, "MAXLEN", "~", MOST_LOGGED, "*",
    "at", string.format("%.0f", now_ms), "word", word, "cause", cause, "note", note)
  return word
end

local function number(field) return tonumber(redis.call("HGET", known, field) or nil) end

local open_until, told_at, change_at = number("open_until"), number("told_at"), number(change .. "_at")
local told_level, times = number("told_level") or -1, number("times") or 0
local is_open = open_until and (open_until == 0 or now_ms < open_until)
if not within(told_at, DAY_MS) then told_level, times = -1, 0 end
local is_louder, is_known = level > told_level, false

if change == "resolved" then
  if not open_until then return "nothing" end
  redis.call("HDEL", known, "open_until")
elseif change ~= "" then
  is_known = change == "opened" and is_open and level <= (number("open_level") or -1)
  redis.call("HSET", known, "open_until", ends_at, "open_level", level)
end

local mute = redis.call("HGET", notify_mutes_key, cause)
if mute and now_ms < tonumber(string.match(mute, "^%d+")) then
  -- When the mute is over, what still goes on is told anew.
  redis.call("HDEL", known, "told_at", "told_level", "times", "_at", "opened_at", "changed_at", "resolved_at")
  return is_known and "muted" or finish("muted")
elseif mute then
  redis.call("HDEL", notify_mutes_key, cause)
end
if is_known and within(change_at, DAY_MS) then return "repeated" end

-- Whoever was told often waits longer for the rest, so that what flaps all day makes few messages.
local wait_ms = math.min(LONGEST_WAIT_MS, cooldown_ms * 2 ^ math.max(0, math.min(times, 20) - 1))
local held_until
local is_waiting = redis.call("HEXISTS", notify_held_notes_key, cause) == 1
if quiet_until and level < CRITICAL then
  held_until = quiet_until
elseif not is_louder then
  local is_told = change ~= "" and within(change_at, DAY_MS)
    or change == "" and (is_waiting or within(told_at, wait_ms))
  held_until = is_told and math.max(now_ms, (told_at or now_ms) + wait_ms) or nil
end
if not (change ~= "" and within(change_at, DAY_MS)) then
  redis.call("HSET", known, change .. "_at", string.format("%.0f", now_ms))
end

if held_until then
  -- Beyond a bound there is one place for all.
  local place = cause
  if not is_waiting and redis.call("ZCARD", notify_held_key) >= MOST_WAITING then place = "(more)" end
  local before = redis.call("HGET", notify_held_notes_key, place)
  local count, first_at = string.match(before or "", "^(%d+)|(%d+)|")
  redis.call("HSET", notify_held_notes_key, place,
    string.format("%d|%.0f|%d|", (count or 0) + 1, first_at or now_ms, level) .. note)
  redis.call("ZADD", notify_held_key, "GT", string.format("%.0f", held_until), place)
  return finish("held")
end

redis.call("HSET", known, "told_at", string.format("%.0f", now_ms), "told_level", level, "times", times + 1)
for i = 10, #ARGV do
  local outbox, notes = notify_outbox_key(ARGV[i]), notify_notes_key(ARGV[i])
  -- What is told within one millisecond, or while the clock is moved back, keeps its order.
  local last = redis.call("ZRANGE", outbox, -1, -1, "WITHSCORES")[2]
  redis.call("ZADD", outbox, string.format("%.3f", math.max(now_ms, last and last + 0.001 or 0)), id)
  redis.call("HSET", notes, id, note)
  redis.call("PEXPIRE", outbox, REMEMBERED_MS) -- of a sink that nobody has any more
  redis.call("PEXPIRE", notes, REMEMBERED_MS)
  if redis.call("ZCARD", outbox) > MOST_WAITING then
    redis.call("HDEL", notes, redis.call("ZPOPMIN", outbox)[1])
    redis.call("HINCRBY", notify_sink_key(ARGV[i]), "dropped", 1)
  end
end
return finish("told")
