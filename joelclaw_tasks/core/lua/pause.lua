-- pause: shuts a gate. What runs goes on; nothing behind the gate starts from now on.
-- ARGV: now, transitions_max, gate, ttl_ms (0: until resumed), actor, reason.
-- Reply: {PAUSED, record (JSON)}
--@include keys
--@include drain
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local gate, ttl_ms, actor, reason = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
--@include record
local pause = { gate = gate, actor = actor, reason = reason, paused_at = now_ms }
redis.call("ZREM", timers_key, "pause|" .. gate, "unpark|" .. gate)
if ttl_ms > 0 then
  pause.expires_at = now_ms + ttl_ms
  redis.call("ZADD", timers_key, pause.expires_at, "pause|" .. gate)
end
record("pause", now_ms, { gate = gate, actor = actor, reason = reason, expires_at = pause.expires_at })
local pause_json = cjson.encode(pause)
redis.call("HSET", pauses_key, gate, pause_json)
return { "PAUSED", pause_json }
