-- admit: nothing -> available | scheduled | held | discarded. Takes any number of jobs, all or none.
-- KEYS, after the prefix: the inbox of a queue, when the jobs come from there. A message leaves it with its
-- admission; one that is gone already was admitted by another worker, and may even be finished.
-- ARGV: now, transitions_max, then each job as in shared/spec.lua.
-- Reply, for each job: ADMITTED | SCHEDULED | REFUSED | DUPLICATE | SUCCEEDED, and by rules: HELD | EXPIRED,
-- and DUPLICATE | THROTTLED | SKIPPED | DEBOUNCED | BATCHED, which name another job in a second line.
--@include keys
--@include clock
local now_ms, passed_ms = clock_ms(ARGV[1])
local transitions_max = ARGV[2]
--@include enter
--@include spec
local FINAL = { completed = true, cancelled = true, discarded = true }

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
  record("admit", now_ms, { job = job.id, family = job.family, handler = job.handler, reason = "duplicate" })
  return "DUPLICATE"
end

local function admit(job, call)
  local rank = now_ms + tonumber(job.slack_ms) + passed_ms
  if passed_ms > 0 then passed_ms = passed_ms + 0.001 end -- the next job of this call comes after it
  -- The message comes first: in a compact hash, what comes before a field that changes is not moved.
  redis.call("HSET", job_key(job.id), "payload", call.payload, "state", "available", "rank", rank,
    "available_at", now_ms, "queue", job.queue, "family", job.family, "handler", job.handler,
    "lane", job.lane, "gates", job.gates, "priority", job.priority, "slack_ms", job.slack_ms,
    "keep_ms", job.keep_ms, "claims", 0, "kills", 0, "retries", job.retries, "trace", job.trace,
    "admitted_at", now_ms)
  if call.own_priority then
    redis.call("HSET", job_key(job.id), "own_priority", call.own_priority, "steered_by", call.steered_by)
  end
  local entry = { actor = call.actor, priority = job.priority }
  if call.refusal ~= "" then
    if not call.is_revivable then redis.call("HSET", job_key(job.id), "refused", 1) end
    redis.call("SADD", queues_key, job.queue)
--@include bury
    bury(job, "admit", now_ms, { kind = "Refused", error = call.refusal }, entry)
    return "REFUSED"
  end
  if call.due_ms > now_ms then
    entry.due_at = call.due_ms
    set_waiting(job, "scheduled", call.due_ms, now_ms)
    move_job(job, "admit", "scheduled", now_ms, entry)
    return "SCHEDULED"
  end
  job.rank = rank
  if call.triage then
--@include triage
    want_score(job, now_ms)
    if call.triage.hold_ms > 0 and not call.own_priority then
      hold_for_score(job, call.triage.hold_ms, now_ms, entry)
      return "HELD"
    end
  end
  enqueue(job, true)
  move_job(job, "admit", "available", now_ms, entry)
  return "ADMITTED"
end

local function admit_by_rules(job, call)
--@include rules
  return by_rules(cjson.decode(call.rules))
end

local function admit_once(job, call)
  -- One look for both: hardly ever is there either.
  local known = redis.call("EXISTS", job_key(job.id), priorities_key) > 0
  if known then
    local slack_and_priority = redis.call("HGET", priorities_key, job.family)
    if slack_and_priority then
      local control = redis.call("HGET", controls_key, "priority|family/" .. job.family)
      call.own_priority = job.slack_ms .. "|" .. job.priority
      call.steered_by = control and cjson.decode(control).actor or ""
      job.slack_ms, job.priority = string.match(slack_and_priority, "^(.*)|(.*)$")
    end
    known = read_job(job.id)
  end
  if known and FINAL[known.state] and job.keep_ms == "0" then
    -- A plain task may be sent again under its old id once it is over, as on stock Celery.
    if known.state == "discarded" then
--@include exhume
      exhume(job.id)
      count(known, "discarded", -1)
    end
    redis.call("DEL", job_key(job.id))
    known = nil
  end
  if known then return admit_again(known, job, call) end
  if call.rules ~= "" then
    -- A score is what many events want, and nothing else.
    local hold_ms = string.match(call.rules, '^{"triage":{"hold_ms":(%d+)}}$')
    if not hold_ms or redis.call("EXISTS", alias_key(job.id)) == 1 then return admit_by_rules(job, call) end
    call.triage = { hold_ms = tonumber(hold_ms) }
  end
  return admit(job, call)
end

local inbox = KEYS[2]
local words = {}
for first = 3, #ARGV, STRIDE do
  local job, call = bind_job(first)
  if inbox and not redis.call("LPOS", inbox, call.payload, "RANK", -1) then
    words[#words + 1] = "DUPLICATE"
  else
    words[#words + 1] = admit_once(job, call)
    if inbox then redis.call("LREM", inbox, -1, call.payload) end
  end
end
write_counts()
return words
