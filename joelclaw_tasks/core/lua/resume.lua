-- resume: opens a paused gate for everything that waits there.
-- ARGV: now, transitions_max, gate, actor, reason. Reply: {RESUMED, previous record} | {NOT_PAUSED, ""}
--@include keys
--@include drain
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local gate, actor, reason = ARGV[3], ARGV[4], ARGV[5]
--@include timers
local pause_json = redis.call("HGET", pauses_key, gate)
if not pause_json then return { "NOT_PAUSED", "" } end
record("resume", now_ms, { gate = gate, actor = actor, reason = reason })
redis.call("HDEL", pauses_key, gate)
redis.call("ZREM", timers_key, "pause|" .. gate)
unpark_all(gate, now_ms)
return { "RESUMED", pause_json }
