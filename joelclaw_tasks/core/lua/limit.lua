-- limit: sets how many jobs may pass a gate at once; it acts on queued work from now on.
-- ARGV: now, transitions_max, actor, reason, then gate and limit ("" takes the limit away) in pairs.
-- Reply: {LIMITED, gates whose limit changed}
--@include keys
--@include drain
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local actor, reason = ARGV[3], ARGV[4]
--@include timers
local changed = 0
for i = 5, #ARGV, 2 do
  local gate, limit = ARGV[i], ARGV[i + 1]
  local known = redis.call("HGET", limits_key, gate) or ""
  if known ~= limit then
    record("limit", now_ms, { gate = gate, actor = actor, reason = reason, limit = limit, was = known })
    if limit == "" then
      redis.call("HDEL", limits_key, gate)
    else
      redis.call("HSET", limits_key, gate, limit)
    end
    changed = changed + 1
    unpark_all(gate, now_ms)
    unpark_keyed(gate, "", now_ms)
  end
end
return { "LIMITED", changed }
