-- successor: what a running job becomes when it ends.
--@gives announce_successor
-- Remembers it, and why. Its id and keep_ms stay.
local function announce_successor(job, due_ms, payload, reason)
  redis.call("HSET", job_key(job.id), "next_payload", payload, "next", cjson.encode({
    queue = job.queue, family = job.family, handler = job.handler, lane = job.lane, gates = job.gates,
    priority = job.priority, slack_ms = job.slack_ms, retries = job.retries, due_ms = due_ms,
    reason = reason,
  }))
end
