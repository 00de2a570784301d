-- again: what `admit` does with a call whose id is known, or whose family has a priority that somebody set.
--@include successor
--@include exhume
--@gives is_over steer still_known admit_again
local function is_over(state) return state == "completed" or state == "cancelled" or state == "discarded" end

-- Gives the job the priority of its family; its own comes back when that ends.
local function steer(job, call)
  local slack_and_priority = redis.call("HGET", priorities_key, job.family)
  if not slack_and_priority then return end
  local control = redis.call("HGET", controls_key, "priority|family/" .. job.family)
  call.own_priority = job.slack_ms .. "|" .. job.priority
  call.steered_by = control and cjson.decode(control).actor or ""
  job.slack_ms, job.priority = string.match(slack_and_priority, "^(.*)|(.*)$")
end

-- The job that has this id already, or nil. A plain task may be sent again under its old id once it is over,
-- as on stock Celery.
local function still_known(job)
  local known = read_job(job.id)
  if not known or not is_over(known.state) or job.keep_ms ~= "0" then return known end
  if known.state == "discarded" then
    exhume(job.id)
    count(known, "discarded", -1)
  end
  redis.call("DEL", job_key(job.id))
  return nil
end

-- The arguments of a call.
local function body_of(payload) return string.match(payload, '"body": ?"(.-)"') end

-- A call with the id of a job that runs: does it say how the job goes on, or is it the same call again? A
-- retry that the worker's parent sends for a lost child has a higher count. A chord that replaces a task ends
-- with a call under the task's own id, which may come before the end of the task has been told.
local function goes_on_as(known, job, call)
  if known.state ~= "executing" then return false end
  if tonumber(job.retries) > tonumber(known.retries) then return true end
  if job.keep_ms ~= "0" then return false end
  local payload = redis.call("HGET", job_key(job.id), "payload")
  return known.family ~= job.family or body_of(payload) ~= body_of(call.payload)
end

local function admit_again(known, job, call)
  if goes_on_as(known, job, call) then
    redis.call("ZREM", timers_key, "") -- a full Redis takes it, as `retry` (see shared/when_full.lua)
    announce_successor(job, call.due_ms, call.payload)
    return "SUCCEEDED"
  end
  record("admit", { job = job.id, family = job.family, handler = job.handler, reason = "duplicate" })
  return "DUPLICATE"
end
