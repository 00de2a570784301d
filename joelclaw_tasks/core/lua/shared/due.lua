-- due: fires timers whose time has come; each kind has an entry in ON_DUE.
--@include reopen
--@gives fire_due expire_holder
-- Everything that a lost holder held goes back, a batch at a time.
local function expire_holder(holder, now_ms, max_kills, reason)
  local ids = redis.call("ZRANGE", leases_key(holder), 0, 99)
  for _, id in ipairs(ids) do
    local job = read_job(id)
    if job then
      local entry = run_times(job, now_ms)
      entry.reason, entry.holder = reason, holder
      if give_back(job, "expire", now_ms, true, max_kills, entry) == "DISCARDED" then
        redis.call("RPUSH", orphans_key, id)
      end
    else -- its hash was deleted by hand: nothing is left to run
      redis.call("ZREM", leases_key(holder), id)
    end
  end
  if redis.call("EXISTS", leases_key(holder)) == 1 then
    redis.call("ZADD", timers_key, now_ms, "lease|" .. holder)
  else
    redis.call("ZREM", timers_key, "lease|" .. holder)
    redis.call("HDEL", holders_key, holder)
  end
  return #ids
end

local ON_DUE = {
  job = function(id, _, due_ms)
    local job = read_job(id)
    if not job then return end
    if job.state == "held" then
--@include triage
      end_hold(job)
      set_available(job, tonumber(job.rank), due_ms)
      move_job(job, "stage", "available", { reason = "no score in time" })
      return
    end
    set_available(job, due_ms + tonumber(job.slack_ms), due_ms)
    move_job(job, "stage", "available", {})
  end,
  control = function(name, now_ms)
--@include revert
    expire_control(name, now_ms)
  end,
  unpark = function(gate, now_ms) unpark_all(gate, now_ms) end,
  rate = function(gate, now_ms) unpark_all(gate, now_ms) end,
  reopen = function(name, now_ms)
    local gate, after = string.match(name, "^(.-)\n(.*)$")
    unpark_keyed(gate, after, now_ms)
  end,
  topic = function(topic, now_ms)
--@include cancel_job
    for _, id in ipairs(redis.call("SPOP", topic_key(topic), BATCH)) do
      cancel_job(id, "event", "event for " .. topic)
    end
    if redis.call("EXISTS", topic_key(topic)) == 1 then
      redis.call("ZADD", timers_key, now_ms, "topic|" .. topic)
    end
  end,
  lease = function(holder, now_ms, _, max_kills)
    expire_holder(holder, now_ms, max_kills, "lease expired")
  end,
}

-- Fires up to 100. Answers when the next timer is due, or nil.
local function fire_due(now_ms, max_kills, lease_ms, was_away)
  local due = redis.call("ZRANGEBYSCORE", timers_key, "-inf", now_ms, "WITHSCORES", "LIMIT", 0, 100)
  for i = 1, #due, 2 do
    local kind, name = string.match(due[i], "^(%a+)|(.*)$")
    if kind == "lease" and was_away then
      redis.call("ZADD", timers_key, now_ms + lease_ms, due[i])
    else
      redis.call("ZREM", timers_key, due[i])
      ON_DUE[kind](name, now_ms, tonumber(due[i + 1]), max_kills)
    end
  end
  return redis.call("ZRANGE", timers_key, 0, 0, "WITHSCORES")[2]
end
