-- shed: available | scheduled | retryable -> held: to the parking lot, for ttl_ms or until brought back.
-- ARGV as in shared/bulk.lua. Word: SHED | MISSING | WRONG_STATE | HELD_BY_PERSON
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include bulk
local act = begin_act("shed")

local reply = for_each_job(act, 8, function(job, entry)
  local from = job.state
  if from == "available" then
    redis.call("ZREM", lane_key(job.lane), job.id)
    moved_lanes[job.lane] = true
  elseif from == "scheduled" or from == "retryable" then
    redis.call("ZREM", timers_key, "job|" .. job.id)
  else
    return nil
  end
  redis.call("HSET", job_key(job.id), "state", "held", "held_for", "shed", "held_by", act.id,
    "held_from", from, "held_at", now_ms)
  note_steered(job, act, now_ms)
  move_job(job, "shed", "held", entry)
  return "SHED"
end)
-- In force while its parking lot holds a job.
if act.target ~= act.id and redis.call("EXISTS", touched_key(act.id)) == 1 then
  act.where, act.target = act.target, act.id
  set_control(act, "", "", now_ms)
end
write_counts()
return reply
