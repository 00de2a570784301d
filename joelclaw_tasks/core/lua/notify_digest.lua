-- notify_digest: what was held back and may go out now becomes one entry in the outbox of each sink.
-- ARGV: now, id, most causes, is_forced (0|1: also what is not due), then the sinks.
-- Reply: how many causes went
--@include keys
--@include clock
local now_ms = clock_ms(ARGV[1])
local id, most = ARGV[2], tonumber(ARGV[3])
local at = string.format("%.0f", now_ms)
local until_at = ARGV[4] == "1" and "+inf" or at
local due = redis.call("ZRANGEBYSCORE", notify_held_key, "-inf", until_at, "LIMIT", 0, most)
if #due == 0 then return 0 end

local parts = {}
for _, cause in ipairs(due) do
  local held = redis.call("HGET", notify_held_notes_key, cause)
  local mute = redis.call("HGET", notify_mutes_key, cause)
  -- What was muted since is not told.
  if held and not (mute and now_ms < tonumber(string.match(mute, "^%d+"))) then
    local count, first_at, level, note = string.match(held, "^(%d+)|(%d+)|(%d+)|(.*)$")
    parts[#parts + 1] = '{"count":' .. count .. ',"first_at":' .. first_at .. ',"note":' .. note .. "}"
    local known = notify_cause_key(cause)
    redis.call("HSET", known, "told_at", at, "told_level", level)
    redis.call("HINCRBY", known, "times", 1)
    redis.call("PEXPIRE", known, 30 * 86400000)
  end
end
redis.call("ZREM", notify_held_key, unpack(due))
redis.call("HDEL", notify_held_notes_key, unpack(due))
if #parts == 0 then return 0 end
local digest = '{"id":"' .. id .. '","at":' .. at .. ',"held":[' .. table.concat(parts, ",") .. "]}"
for i = 5, #ARGV do
  redis.call("ZADD", notify_outbox_key(ARGV[i]), at, id)
  redis.call("HSET", notify_notes_key(ARGV[i]), id, digest)
  redis.call("PEXPIRE", notify_outbox_key(ARGV[i]), 30 * 86400000)
  redis.call("PEXPIRE", notify_notes_key(ARGV[i]), 30 * 86400000)
end
return #parts
