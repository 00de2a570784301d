-- resume: opens a paused gate for everything that waits there.
-- ARGV: now, transitions_max, gate, actor, reason.
-- Reply: {RESUMED, the pause that it had, act} | {HELD_BY_PERSON, "", control} | {NOT_PAUSED, "", ""}
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local gate, actor, reason = ARGV[3], ARGV[4], ARGV[5]
--@include controls
local pause_json = redis.call("HGET", pauses_key, gate)
if not pause_json then return { "NOT_PAUSED", "", "" } end
local control = control_of("pause", gate)
if is_refused("resume", control, actor, reason) then
  return { "HELD_BY_PERSON", "", cjson.encode(control) }
end
local act = new_act("resume", gate, 0, actor, reason, now_ms, { gate = gate })
if control then
  act.previous, control.previous = control, nil
  keep_act(act)
  redis.call("HDEL", controls_key, name_of(control))
  redis.call("ZREM", timers_key, "control|" .. name_of(control))
end
APPLY.pause(gate, "", now_ms)
return { "RESUMED", pause_json, cjson.encode(act) }
