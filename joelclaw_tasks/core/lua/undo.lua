-- undo: takes one act back. Jobs that it moved go back a batch at a time: call again while some are left.
-- ARGV: now, transitions_max, act, actor, reason.
-- Reply: {UNDONE, act, jobs that went back, jobs left}, or instead of UNDONE: MISSING | HELD_BY_PERSON |
-- SUPERSEDED | OVER
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local id, actor, reason = ARGV[3], ARGV[4], ARGV[5]
--@include revert
local act_json = string.match(id, "^c%d+$") and redis.call("HGET", acts_key, id)
if not act_json then return { "MISSING", "", 0, 0 } end
local act = cjson.decode(act_json)
if is_refused("undo", act, actor, reason) then return { "HELD_BY_PERSON", act_json, 0, 0 } end

local slot = act.verb == "resume" and "pause" or act.verb
local current = control_of(slot, act.target)
local in_force = current and current.id == id
local has_jobs = redis.call("EXISTS", touched_key(id)) == 1
local again = act.verb == "resume" and not current and act.previous
  and (act.previous["until"] or math.huge) > now_ms
if not (in_force or has_jobs or again) then
  return { current and current.id ~= id and not act.undone_at and "SUPERSEDED" or "OVER", act_json, 0, 0 }
end

if not act.undone_at then
  record("undo", { control = id, of = act.verb, target = act.target, actor = actor, reason = reason })
  act.undone_at, act.undone_by = now_ms, actor
  keep_act(act)
end
if again then
  act.previous.base = ""
  enforce(act.previous, now_ms)
elseif in_force and act.verb ~= "shed" then
  end_control(current, now_ms)
end
local went_back, left = 0, 0
if has_jobs then went_back, left = revert(act, actor, reason, now_ms) end
if act.verb == "shed" then end_shed(id) end
write_counts()
return { "UNDONE", cjson.encode(act), went_back, left }
