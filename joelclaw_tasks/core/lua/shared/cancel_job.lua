-- cancel_job: what `cancel` does with one id; included where something is cancelled, for this is rare.
-- Answers CANCELLED, ASKED (it runs: its worker is to stop it), MISSING or WRONG_STATE.
--@include forget
-- One of a batch that still gathers. The batch goes with its last element.
local function cancel_element(id, actor, reason, cancel)
  local batch = redis.call("GET", alias_key(id))
  if not batch or redis.call("HDEL", elements_key(batch), id) == 0 then return "MISSING" end
  record("cancel", { job = id, into = batch, actor = actor, reason = reason })
  if redis.call("EXISTS", elements_key(batch)) == 0 then cancel(batch, actor, reason) end
  return "CANCELLED"
end

-- What runs is asked once; whoever asks first is remembered.
local function ask_to_stop(job, actor, reason)
  local rules = job.rules and cjson.decode(job.rules) or {}
  if rules.asked then return "ASKED" end
  rules.asked = { actor = actor, reason = reason }
  redis.call("HSET", job_key(job.id), "cancel_asked_at", now_ms, "rules", cjson.encode(rules))
  redis.call("ZADD", asked_key(job.holder), now_ms, tag_of(job))
  move_job(job, "cancel", "executing", { actor = actor, reason = reason, holder = job.holder })
  return "ASKED"
end

-- `act`: the act that can be undone for an hour. What holds something by its rules is not brought back.
local function cancel_job(id, actor, reason, act)
  local job = read_job(id)
  if not job then return cancel_element(id, actor, reason, cancel_job) end
  if job.state == "executing" then return ask_to_stop(job, actor, reason) end
  if job.state == "available" then
    local lane = read_lane(job.lane)
    redis.call("ZREM", lane_key(job.lane), id)
    settle_lane(lane)
    pass_on(lane.gates) -- the lane's rank may be worse now than that of a lane parked at the same gate
  elseif job.state == "scheduled" or job.state == "retryable" then
    redis.call("ZREM", timers_key, "job|" .. id)
  elseif job.state == "held" and redis.call("HGET", job_key(id), "held_for") == "triage" then
    redis.call("ZREM", timers_key, "job|" .. id)
    redis.call("ZREM", triage_key, id)
  elseif job.state == "held" then
    local act = redis.call("HGET", job_key(id), "held_by")
    redis.call("ZREM", touched_key(act), id)
    if redis.call("EXISTS", touched_key(act)) == 0 then -- the parking lot of that act is empty
      redis.call("HDEL", controls_key, "shed|" .. act)
      redis.call("ZREM", timers_key, "control|shed|" .. act)
    end
  else
    return "WRONG_STATE"
  end
  move_job(job, "cancel", "cancelled", { actor = actor, reason = reason, control = act })
  if act and not job.rules and not job.gathered then
    redis.call("RENAME", job_key(id), shelved_key(id))
    redis.call("PEXPIRE", shelved_key(id), 3600000)
    redis.call("ZADD", touched_key(act), now_ms, id)
  end
  forget(job, "cancelled", now_ms)
  return "CANCELLED"
end
