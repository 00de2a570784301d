-- forget: finished for good: remembered for keep_ms as a duplicate, by the few fields that say what it was.
--@include job
--@gives forget
local function forget(job, state, now_ms)
  local key, keep_ms = job_key(job.id), tonumber(job.keep_ms)
  redis.call("DEL", key)
  if job.rules then let_go(job) end
  if keep_ms == 0 then return end
  redis.call("HSET", key, "state", state, "queue", job.queue, "family", job.family, "handler", job.handler,
    "priority", job.priority, "claims", job.claims, "finished_at", now_ms)
  redis.call("PEXPIRE", key, keep_ms)
end
