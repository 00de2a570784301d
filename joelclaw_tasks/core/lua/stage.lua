-- stage: scheduled | retryable -> available, before its time, because somebody says so.
-- ARGV as in shared/bulk.lua. Word: STAGED | MISSING | WRONG_STATE | HELD_BY_PERSON
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include bulk
local UNDO_WITHIN_MS = 86400000
local act = begin_act("stage")

local reply = for_each_job(act, 8, function(job, entry)
  if job.state ~= "scheduled" and job.state ~= "retryable" then return nil end
  local due_ms = redis.call("HGET", job_key(job.id), "due_at")
  redis.call("ZREM", timers_key, "job|" .. job.id)
  note_steered(job, act, tonumber(due_ms) * 2 + (job.state == "retryable" and 1 or 0))
  set_available(job, now_ms + tonumber(job.slack_ms), now_ms)
  move_job(job, "stage", "available", entry)
  return "STAGED"
end)
write_counts()
redis.call("PEXPIRE", touched_key(act.id), UNDO_WITHIN_MS)
return reply
