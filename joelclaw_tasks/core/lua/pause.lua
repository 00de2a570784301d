-- pause: shuts a gate. What runs goes on; nothing behind the gate starts from now on.
-- ARGV: now, transitions_max, gate, ttl_ms (0: until resumed), actor, reason.
-- Reply: {PAUSED, record of the pause, control} | {HELD_BY_PERSON, "", control}
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local gate, ttl_ms, actor, reason = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
--@include controls
local before = control_of("pause", gate)
if is_refused("pause", before, actor, reason) then
  return { "HELD_BY_PERSON", "", cjson.encode(before) }
end
local act = new_act("pause", gate, ttl_ms, actor, reason, now_ms, { gate = gate })
local pause_json = cjson.encode({
  gate = gate, actor = actor, reason = reason, paused_at = now_ms, expires_at = act["until"],
  control = act.id,
})
set_control(act, pause_json, "", now_ms)
return { "PAUSED", pause_json, cjson.encode(act) }
