-- drain: what waits now behind a name passes its pauses and rates, never its limits; what comes later waits.
-- ARGV: now, transitions_max, gate, ttl_ms, actor, reason, act ("" the first time), job ("": all that wait),
-- lanes that look again.
-- Reply: {DRAINING, control} | {HELD_BY_PERSON, control}
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local gate, ttl_ms, actor, reason, id = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
--@include controls
--@include rerank
local act = control_of("drain", gate)
local paused = control_of("pause", gate)
for _, by in ipairs({ act or {}, paused or {} }) do
  if is_refused("drain", by, actor, reason) then return { "HELD_BY_PERSON", cjson.encode(by) } end
end
if id == "" then
  act = new_act("drain", gate, ttl_ms, actor, reason, now_ms, { gate = gate })
  set_control(act, ARGV[8] ~= "" and "job " .. ARGV[8] or now_ms, "", now_ms)
end
if act and (id == "" or act.id == id) then
  for i = 9, #ARGV do
    local lane = read_lane(ARGV[i])
    if lane and lane.parked ~= "" then
      look_again(lane)
      moved_lanes[lane.name] = true
    end
  end
  settle_lanes()
end
return { "DRAINING", act and cjson.encode(act) or "" }
