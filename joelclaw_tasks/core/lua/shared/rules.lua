-- rules: admits one job by what core/rules.py asks for, in the order of docs/controls.md. It is spliced into
-- a function that only such a job enters: thus the others pay nothing for it.
--@include cancel_job
local function say(word, reason, of)
  record("admit", { job = job.id, family = job.family, handler = job.handler, reason = reason,
    of = of })
  return of and word .. "\n" .. of or word
end

-- The first call of a window that is still open, or nil. A window that began in the future began before the
-- clock was moved back; it is void, for what runs twice is better than what is lost.
local function opener(kind, window)
  local at, id = string.match(redis.call("GET", rule_key(kind .. "|" .. window.key)) or "", "^(%d+) (.*)$")
  local age_ms = at and now_ms - tonumber(at)
  return age_ms and age_ms >= 0 and age_ms < window.window_ms and id
end

local function open_window(kind, window, id)
  if not window then return end
  redis.call("SET", rule_key(kind .. "|" .. window.key), string.format("%.0f ", now_ms) .. id,
    "PX", window.window_ms)
end

local function state_of(id) return redis.call("HGET", job_key(id), "state") end

-- The scheduled job that gathers calls under this name, or nil.
local function gathering(name)
  local id = redis.call("GET", rule_key(name))
  return id and state_of(id) == "scheduled" and id
end

-- A call that becomes part of a job leaves its id behind, so that it can be found, and is known when it comes
-- again: a client repeats a call whose answer was lost.
local function merge_into(id)
  redis.call("SET", alias_key(job.id), id, "PX", math.max(tonumber(job.keep_ms), 3600000))
end

-- What the job holds from now on; `let_go` gives it back.
local function hold(id, rules)
  local held = { expires_at = rules.expires_at, singleton = rules.singleton and rules.singleton.key,
    topics = rules.topics }
  if next(held) then redis.call("HSET", job_key(id), "rules", cjson.encode(held)) end
  if held.singleton then redis.call("SET", rule_key("singleton|" .. held.singleton), id) end
  for _, topic in ipairs(held.topics or {}) do redis.call("SADD", topic_key(topic), id) end
end

-- Everything that waits under a topic is cancelled, and what runs is asked to stop: some now, the rest by a
-- timer, under a name of its own, for later jobs of the topic are not meant.
local function cancel_topic(topic)
  for _, id in ipairs(redis.call("SPOP", topic_key(topic), BATCH)) do
    cancel_job(id, call.actor ~= "" and call.actor or "event", "event " .. job.family)
  end
  if redis.call("EXISTS", topic_key(topic)) == 1 then
    local rest = topic .. "|" .. job.id
    redis.call("RENAME", topic_key(topic), topic_key(rest))
    redis.call("ZADD", timers_key, now_ms, "topic|" .. rest)
  end
end

--@include gather
-- A singleton that is there already, other than the one that this call becomes part of.
local function rival_of(rules, into)
  local id = rules.singleton and redis.call("GET", rule_key("singleton|" .. rules.singleton.key))
  if not id or id == into then return nil end
  local state = state_of(id)
  return state and not is_over(state) and id
end

local function by_rules(rules)
  local merged = redis.call("GET", alias_key(job.id))
  if merged and merged ~= rules.split_from then return say("DUPLICATE", "duplicate", merged) end
  if rules.split_from then
    redis.call("DEL", alias_key(job.id))
    if rules.error then call.refusal, call.is_revivable = rules.error, true end
  end
  if rules.expires_at and rules.expires_at <= now_ms then return say("EXPIRED", "expired") end
  for _, topic in ipairs(rules.cancels or {}) do cancel_topic(topic) end

  local name = rules.debounce and "debounce|" .. rules.debounce.key
    or rules.batch and "batch|" .. rules.batch.key .. "|" .. job.lane
  local into = name and gathering(name)
  local first = rules.dedup and opener("dedup", rules.dedup)
  if first then return say("DUPLICATE", "duplicate", first) end
  first = rules.throttle and opener("throttle", rules.throttle)
  if first then return say("THROTTLED", "throttled", first) end
  local rival = rival_of(rules, into)
  if rival and not rules.singleton.cancel then return say("SKIPPED", "skipped", rival) end
  if rival then cancel_job(rival, "singleton", "a newer one: " .. job.id) end

  open_window("dedup", rules.dedup, job.id)
  open_window("throttle", rules.throttle, job.id)
  if rules.debounce then return debounce(name, into, rules) end
  if rules.batch then return batch(name, into, rules) end
  call.triage = rules.triage
  local word = admit(job, call)
  if word ~= "REFUSED" then hold(job.id, rules) end
  return word
end
