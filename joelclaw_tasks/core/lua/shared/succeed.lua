-- succeed: what a job that stops becomes when it has not just finished.
--@include enter
--@gives succeed put_back give_back
-- What an ending job becomes instead of ending so: cancelled, when it was asked to stop, or its successor.
-- Answers CANCELLED, RETRIED or nil.
local function succeed(job, now_ms, entry)
  local asked = job.rules and cjson.decode(job.rules).asked
  if asked then
    redis.call("ZREM", asked_key(job.holder), tag_of(job))
    entry.actor, entry.reason = asked.actor, asked.reason
    move_job(job, "cancel", "cancelled", entry)
    forget(job, "cancelled", now_ms)
    return "CANCELLED"
  end
  if not job.next then return nil end
  local key, successor = job_key(job.id), cjson.decode(job.next)
  redis.call("HSET", key, "payload", redis.call("HGET", key, "next_payload"))
  redis.call("HDEL", key, "next", "next_payload")
  count(job, "executing", -1)
  entry.from, job.state = "executing", nil
  entry.reason, successor.reason = successor.reason or entry.reason, nil
  if redis.call("HGET", key, "own_priority") then -- what somebody has set holds for the life of the job
    redis.call("HSET", key, "own_priority", successor.slack_ms .. "|" .. successor.priority)
    successor.slack_ms, successor.priority = job.slack_ms, job.priority
  end
  for name, value in pairs(successor) do
    if name ~= "due_ms" then
      job[name] = value
      redis.call("HSET", key, name, value)
    end
  end
  local due_ms = tonumber(successor.due_ms)
  if due_ms > now_ms then
    entry.due_at = due_ms
    set_waiting(job, "retryable", due_ms, now_ms)
    move_job(job, "retry", "retryable", entry)
  else
    set_available(job, now_ms + tonumber(job.slack_ms), now_ms, true)
    move_job(job, "retry", "available", entry)
  end
  return "RETRIED"
end

-- What becomes of a job that stops without having finished.
local function put_back(job, verb, now_ms, killed, max_kills, entry)
  local word = succeed(job, now_ms, entry)
  if word then return word end
  if killed then
    job.kills = redis.call("HINCRBY", job_key(job.id), "kills", 1)
    entry.kills = job.kills
    if job.kills >= max_kills then
--@include bury
      local why = { kind = "WorkerDied", error = "its worker died under it " .. job.kills .. " times" }
      bury(job, "discard", now_ms, why, entry)
      return "DISCARDED"
    end
  end
  set_available(job, job.rank, now_ms)
  move_job(job, verb, "available", entry)
  return "RELEASED"
end

-- Back to its lane with its old rank. `killed`: its worker died under it, which may not go on for ever.
local function give_back(job, verb, now_ms, killed, max_kills, entry)
  local gates = end_lease(job)
  local word = put_back(job, verb, now_ms, killed, max_kills, entry)
  pass_on(gates)
  return word
end
