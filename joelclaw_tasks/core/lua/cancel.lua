-- cancel: scheduled | available | retryable | held -> cancelled. A running job is asked to stop: its worker
-- hears of it, and however it ends then, it ends as cancelled.
-- ARGV: now, transitions_max, actor, reason, target ("": it cannot be undone), act ("" the first time), ids.
-- Reply: {act, for each id CANCELLED | ASKED | MISSING | WRONG_STATE | HELD_BY_PERSON}
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local actor, reason, target, act = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
--@include controls
--@include cancel_job
if target == "" then
  act = nil
elseif act == "" then
  act = new_act("cancel", target, 0, actor, reason, now_ms, { target = target }).id
end
local words = {}
for i = 7, #ARGV do
  local held = is_held(actor, redis.call("HGET", job_key(ARGV[i]), "steered_by"))
  words[#words + 1] = held and "HELD_BY_PERSON" or cancel_job(ARGV[i], actor, reason, act)
end
if act then redis.call("PEXPIRE", touched_key(act), 3600000) end
write_counts()
return { act or "", words }
