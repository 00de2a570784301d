-- leave: how a job stops executing, whatever the reason.
--@include enter
--@include forget
-- A delivery tag names the job, the life of it (an id may be used again) and the claim in that life.
local function tag_of(job) return job.id .. "#" .. job.admitted_at .. "#" .. job.claims end

-- The job of a delivery tag, only while the tag owns it.
local function leased_job(tag)
  local id = string.match(tag, "^(.*)#%d+#%d+$")
  local job = id and read_job(id)
  if job and job.state == "executing" and tag_of(job) == tag then return job end
  return nil
end

-- Ends the lease and gives the places back. Answers their gates: the caller first puts the job where it
-- now belongs and then calls `pass_on` with them, so that a better rank of its own is not overtaken.
local function end_lease(job)
  redis.call("ZREM", leases_key(job.holder), job.id)
  free_gates(job.gates, job.id)
  return job.gates
end

-- What an ending job becomes instead of ending so: cancelled, when it was asked to stop, or its successor.
-- Answers CANCELLED, RETRIED or nil.
local function succeed(job, now_ms, entry)
  local asked = job.rules and cjson.decode(job.rules).asked
  if asked then
    redis.call("ZREM", asked_key(job.holder), tag_of(job))
    entry.actor, entry.reason = asked.actor, asked.reason
    move_job(job, "cancel", "cancelled", now_ms, entry)
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
    move_job(job, "retry", "retryable", now_ms, entry)
  else
    set_available(job, now_ms + tonumber(job.slack_ms), now_ms, true)
    move_job(job, "retry", "available", now_ms, entry)
  end
  return "RETRIED"
end

local function run_times(job, now_ms)
  local claimed_at = tonumber(job.claimed_at)
  local wait_ms = claimed_at - tonumber(job.available_at)
  return { wait_ms = wait_ms, run_ms = now_ms - claimed_at, attempt = job.claims }
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
  move_job(job, verb, "available", now_ms, entry)
  return "RELEASED"
end

-- Back to its lane with its old rank. `killed`: its worker died under it, which may not go on for ever.
local function give_back(job, verb, now_ms, killed, max_kills, entry)
  local gates = end_lease(job)
  local word = put_back(job, verb, now_ms, killed, max_kills, entry)
  pass_on(gates)
  return word
end
