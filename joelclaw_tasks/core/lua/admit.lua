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
--@include job
--@include lanes
--@lazy enter
--@include spec
--@lazy again
local function admit(job, call)
  local rank = now_ms + tonumber(job.slack_ms) + passed_ms
  if passed_ms > 0 then passed_ms = passed_ms + 0.001 end -- the next job of this call comes after it
  -- The message comes first: in a compact hash, what comes before a field that changes is not moved.
  redis.call("HSET", job_key(job.id), "payload", call.payload, "state", "available", "rank", rank,
    "available_at", now, "queue", job.queue, "family", job.family, "handler", job.handler,
    "lane", job.lane, "gates", job.gates, "priority", job.priority, "slack_ms", job.slack_ms,
    "keep_ms", job.keep_ms, "claims", "0", "kills", "0", "retries", job.retries, "trace", job.trace,
    "admitted_at", now)
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
    move_job(job, "admit", "scheduled", entry)
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
  move_job(job, "admit", "available", entry)
  return "ADMITTED"
end

local function admit_by_rules(job, call)
--@include rules
  return by_rules(cjson.decode(call.rules))
end

local function admit_once(job, call)
  -- One look for both: hardly ever is there either.
  if redis.call("EXISTS", job_key(job.id), priorities_key) > 0 then
    steer(job, call)
    local known = still_known(job)
    if known then return admit_again(known, job, call) end
  end
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
