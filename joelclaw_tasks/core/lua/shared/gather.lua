-- gather: calls that become part of one job: the last of a debounce, all of a batch (see shared/rules.lua).
-- The last call's data, in the job that waits already.
local function debounce_into(known, rules)
  local debounce = rules.debounce
  local latest_at = tonumber(known.admitted_at) + debounce.max_wait_ms
  local due_ms = math.max(call.due_ms, now_ms, math.min(now_ms + debounce.wait_ms, latest_at))
  if known.rules then
    let_go(known)
    redis.call("HDEL", job_key(known.id), "rules")
  end
  count(known, "scheduled", -1)
  job.id = known.id
  local own_priority = call.own_priority or job.slack_ms .. "|" .. job.priority
  if redis.call("HGET", job_key(known.id), "own_priority") then -- somebody has set the priority of the job
    redis.call("HSET", job_key(known.id), "own_priority", own_priority)
    job.slack_ms, job.priority = known.slack_ms, known.priority
  elseif call.own_priority then
    redis.call("HSET", job_key(known.id), "own_priority", own_priority, "steered_by", call.steered_by)
  end
  count(job, "scheduled", 1)
  redis.call("HSET", job_key(job.id), "queue", job.queue, "family", job.family, "lane", job.lane,
    "gates", job.gates, "priority", job.priority, "slack_ms", job.slack_ms, "trace", job.trace,
    "payload", call.payload)
  set_waiting(job, "scheduled", due_ms, now_ms)
  hold(job.id, rules)
  return due_ms
end

local function debounce(name, known_id, rules)
  local due_ms, word, id = nil, nil, known_id
  if id then
    merge_into(id)
    word = say("DEBOUNCED", "debounced", id)
    due_ms = debounce_into(read_job(id), rules)
  else
    due_ms = math.max(call.due_ms, now_ms + rules.debounce.wait_ms)
    call.due_ms, id = due_ms, job.id
    word = admit(job, call)
    hold(id, rules)
    redis.call("HSET", job_key(id), "gathers", "debounce")
  end
  redis.call("SET", rule_key(name), id, "PX", due_ms - now_ms + 60000)
  return word
end

-- The batch lasts as long as the element that lasts longest, and is as urgent as its most urgent one, unless
-- somebody has set its priority.
local function join_batch(known, rules)
  local held = known.rules and cjson.decode(known.rules) or {}
  local expires_at = held.expires_at and rules.expires_at and math.max(held.expires_at, rules.expires_at)
  if held.expires_at ~= expires_at then
    held.expires_at = expires_at
    redis.call("HSET", job_key(known.id), "rules", cjson.encode(held))
  end
  if redis.call("HGET", job_key(known.id), "own_priority") then return end
  if tonumber(job.priority) < tonumber(known.priority) then
    if call.own_priority then
      redis.call("HSET", job_key(known.id), "own_priority", known.slack_ms .. "|" .. known.priority,
        "steered_by", call.steered_by)
    end
    count(known, "scheduled", -1)
    known.priority, known.slack_ms = job.priority, job.slack_ms
    count(known, "scheduled", 1)
    redis.call("HSET", job_key(known.id), "priority", known.priority, "slack_ms", known.slack_ms)
  end
end

local function batch(name, known_id, rules)
  local id, element, payload = known_id or "batch:" .. job.id, job.id, call.payload
  merge_into(id)
  local word = say("BATCHED", "batched", id)
  -- None of its elements starts before its own time.
  local not_before = math.max(call.due_ms,
    tonumber(known_id and redis.call("HGET", job_key(id), "not_before") or 0))
  local ttl_ms = rules.batch.max_wait_ms + math.max(0, not_before - now_ms) + 60000
  for _, topic in ipairs(rules.topics or {}) do
    redis.call("SADD", topic_key(topic), element)
    if redis.call("PTTL", topic_key(topic)) < ttl_ms then redis.call("PEXPIRE", topic_key(topic), ttl_ms) end
  end
  if known_id then
    join_batch(read_job(id), rules)
  else
    job.id, call.payload = id, '{"jc_batch":[]}'
    call.due_ms = math.max(not_before, now_ms + rules.batch.max_wait_ms)
    admit(job, call)
    hold(id, { expires_at = rules.expires_at })
  end
  redis.call("SET", rule_key(name), id, "PX", ttl_ms)
  local number = redis.call("HINCRBY", job_key(id), "gathered", 1)
  redis.call("HSET", elements_key(id), element, string.format("%09d\n", number) .. payload)
  redis.call("HSET", job_key(id), "not_before", not_before)
  local known = read_job(id)
  if redis.call("HLEN", elements_key(id)) < rules.batch.size then
    if not_before > tonumber(redis.call("ZSCORE", timers_key, "job|" .. id)) then
      set_waiting(known, "scheduled", not_before, now_ms)
    end
  elseif not_before > now_ms then
    set_waiting(known, "scheduled", not_before, now_ms)
  else
    redis.call("ZREM", timers_key, "job|" .. id)
    set_available(known, now_ms + tonumber(known.slack_ms), now_ms, true)
    move_job(known, "stage", "available", {})
  end
  return word
end
