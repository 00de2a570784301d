-- revert: undoes what an act did to jobs, a batch at a time. `touched` of an act holds what each job was: its
-- slack and priority, or its due time and state. Only jobs that nobody has steered since go back.
--@include controls
--@include rerank
local function unshed(job, verb, now_ms, entry)
  local of = redis.call("HMGET", job_key(job.id), "held_by", "held_from", "due_at")
  redis.call("HDEL", job_key(job.id), "held_by", "held_from", "held_for", "held_at")
  redis.call("ZREM", touched_key(of[1]), job.id)
  if of[2] == "available" then
    set_available(job, job.rank, now_ms)
  else
    set_waiting(job, of[2], tonumber(of[3]), now_ms)
  end
  move_job(job, verb, of[2], entry)
  return of[1]
end

-- What was cancelled by an act lies aside for an hour, unless its id is in use again.
local function unshelve(id, now_ms, entry)
  local known = redis.call("HGET", job_key(id), "state")
  if known and known ~= "cancelled" or redis.call("EXISTS", shelved_key(id)) == 0 then return false end
  redis.call("RENAME", shelved_key(id), job_key(id))
  redis.call("PERSIST", job_key(id))
  local job = read_job(id)
  local of = redis.call("HMGET", job_key(id), "held_from", "due_at")
  local state = job.state == "held" and (of[1] or "available") or job.state
  redis.call("HDEL", job_key(id), "held_by", "held_from", "held_for", "held_at")
  count(job, "cancelled", -1)
  job.state, entry.from = nil, "cancelled"
  if state == "available" then
    set_available(job, job.rank, now_ms)
  else
    set_waiting(job, state, tonumber(of[2]), now_ms)
  end
  move_job(job, "undo", state, entry)
  return true
end

-- A control of `shed` is over when none of its jobs is left.
local function end_shed(id)
  if redis.call("EXISTS", touched_key(id)) == 1 then return end
  redis.call("HDEL", controls_key, "shed|" .. id)
  redis.call("ZREM", timers_key, "control|shed|" .. id)
end

-- Each answers whether the job went back.
local REVERT = {
  shed = function(job, _, now_ms, entry)
    if job.state ~= "held" then return false end
    unshed(job, "unshed", now_ms, entry)
    return true
  end,
  priority = function(job, was, _, entry)
    local slack_ms, priority = math.floor(was / 4), was % 4
    -- What it had at first it has by itself: from now on its retries say their own again.
    if redis.call("HGET", job_key(job.id), "own_priority") == slack_ms .. "|" .. priority then
      redis.call("HDEL", job_key(job.id), "own_priority")
    end
    if not WAITING[job.state] then return false end
    rerank(job, slack_ms, priority, "undo", entry)
    return true
  end,
  stage = function(job, was, now_ms, entry)
    if job.state ~= "available" then return false end
    moved_lanes[job.lane] = true
    redis.call("ZREM", lane_key(job.lane), job.id)
    local state = was % 2 == 1 and "retryable" or "scheduled"
    set_waiting(job, state, math.floor(was / 2), now_ms)
    move_job(job, "undo", state, entry)
    return true
  end,
}

-- Answers how many jobs went back, and how many are still to be looked at.
local function revert(act, actor, reason, now_ms)
  local popped = redis.call("ZPOPMIN", touched_key(act.id), 250) -- as many as AT_ONCE in core/controls.py
  local went_back = 0
  for i = 1, #popped, 2 do
    local job, done = read_job(popped[i]), false
    local field = act.verb == "shed" and "held_by" or "steered"
    local entry = { actor = actor, reason = reason, control = act.id }
    if act.verb == "cancel" then
      done = unshelve(popped[i], now_ms, entry)
    elseif job and redis.call("HGET", job_key(job.id), field) == act.id then
      if field == "steered" then redis.call("HDEL", job_key(job.id), "steered", "steered_by") end
      done = REVERT[act.verb](job, tonumber(popped[i + 1]), now_ms, entry)
    end
    if done then went_back = went_back + 1 end
  end
  settle_lanes()
  return went_back, redis.call("ZCARD", touched_key(act.id))
end

-- The time of a control is over. What it did to jobs stays, but what was shed comes back.
local function expire_control(name, now_ms)
  local act = control_of(string.match(name, "^(%a+)|(.*)$"))
  if not act then return end
  if act.verb ~= "shed" then
    local entry = { of = act.verb, control = act.id, actor = "expiry" }
    if act.verb == "pause" then -- the last pause says when the gate opens, whatever was before
      entry.gate, act.previous = act.target, nil
      record("resume", entry)
    else
      entry.target = act.target
      record("undo", entry)
    end
    end_control(act, now_ms)
  elseif select(2, revert(act, "expiry", "its time is over", now_ms)) > 0 then
    redis.call("ZADD", timers_key, now_ms, "control|" .. name)
  else
    end_shed(act.id)
  end
end
