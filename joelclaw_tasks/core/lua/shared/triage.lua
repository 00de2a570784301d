-- triage: jobs that want a score. While it is sought a job is held, for hold_ms at most; with 0 it runs.
local TRIAGE_MOST = 10000

local function want_score(job, now_ms)
  redis.call("ZADD", triage_key, now_ms, job.id)
  redis.call("ZREMRANGEBYRANK", triage_key, 0, -1 - TRIAGE_MOST)
end

-- Held from its admission on; its rank is set already.
local function hold_for_score(job, hold_ms, now_ms, entry)
  set_waiting(job, "held", now_ms + hold_ms, now_ms)
  redis.call("HSET", job_key(job.id), "held_for", "triage", "held_at", now_ms)
  entry.due_at = now_ms + hold_ms
  move_job(job, "admit", "held", entry)
end

local function is_held_for_score(job)
  return job.state == "held" and redis.call("HGET", job_key(job.id), "held_for") == "triage"
end

local function end_hold(job)
  redis.call("ZREM", timers_key, "job|" .. job.id)
  redis.call("ZREM", triage_key, job.id)
  redis.call("HDEL", job_key(job.id), "held_for", "held_at")
end
