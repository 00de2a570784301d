-- claim_jobs: what `claim` does; ARGV as in claim.lua. It appends the parts of its answer to `reply`.
--@include timers
local max_kills, lease_ms, holder, most = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local last_queue = 7 + tonumber(ARGV[7])
local PARKS_PER_CALL = 200
local now = string.format("%.0f", now_ms) -- as `record` does

local function fill_inboxes()
  local waiting = 0
  for i = 2, #KEYS do
    local inbox = inbox_key(ARGV[last_queue + i - 1])
    for _ = 1, 100 do
      if not redis.call("RPOPLPUSH", KEYS[i], inbox) then break end
    end
    waiting = waiting + redis.call("LLEN", inbox)
  end
  return waiting
end

local function best_lane()
  local name, rank, queue
  for i = 8, last_queue do
    local head = redis.call("ZRANGE", ready_key(ARGV[i]), 0, 0, "WITHSCORES")
    if head[1] and (not rank or tonumber(head[2]) < tonumber(rank)) then
      name, rank, queue = head[1], head[2], ARGV[i]
    end
  end
  return name, rank, queue
end

local function start(lane)
  local first = redis.call("ZRANGE", lane_key(lane.name), 0, 1, "WITHSCORES")
  local id, next_rank = first[1], first[4]
  if lane.drained and lane.drained ~= id then id, next_rank = lane.drained, first[2] end
  redis.call("ZREM", lane_key(lane.name), id)
  local family, handler, priority, claims, kills, trace, admitted_at, available_at, rules, payload =
    unpack(redis.call("HMGET", job_key(id), "family", "handler", "priority", "claims", "kills", "trace",
      "admitted_at", "available_at", "rules", "payload"))
  local expires_at = rules and tonumber(string.match(rules, '"expires_at":(%d+)'))
  if expires_at and expires_at <= now_ms then
    local job = read_job(id)
    move_job(job, "cancel", "cancelled", now_ms, { actor = "expiry", reason = "expired" })
    forget(job, "cancelled", now_ms)
    payload = nil
  end
  if not payload then -- or its hash was deleted by hand: nothing is left to run
    settle_lane(lane)
    return nil
  end
  take_gates(lane.gates, id, now_ms)
  if next_rank then redis.call("ZADD", ready_key(lane.queue), next_rank, lane.name) else settle_lane(lane) end
  local job = {
    id = id, state = "available", queue = lane.queue, family = family, handler = handler, lane = lane.name,
    priority = priority, claims = tostring(tonumber(claims) + 1), trace = trace, admitted_at = admitted_at,
  }
  redis.call("HSET", job_key(id), "state", "executing", "claims", job.claims, "holder", holder,
    "claimed_at", now, "gates", lane.gates)
  redis.call("ZADD", leases_key(holder), now, id)
  move_job(job, "claim", "executing", now_ms, {
    wait_ms = now_ms - tonumber(available_at), attempt = job.claims, holder = holder, gates = lane.gates,
  })
  return tag_of(job), payload, kills
end

local function claim_jobs(reply)
  -- First of all our own lease: a machine that slept must not expire what it still runs itself.
  local renewed = redis.call("ZADD", timers_key, "XX", "CH", now_ms + lease_ms, "lease|" .. holder) == 1
  local next_due_ms = fire_timers(now_ms, max_kills, lease_ms)
  local waiting = #KEYS > 1 and fill_inboxes() or 0

  local first = #reply + 1
  -- Lua itself would write a time after the year 5138 as 2.5e+14.
  next_due_ms = next_due_ms and string.format("%.0f", math.ceil(next_due_ms)) or ""
  reply[first], reply[first + 1], reply[first + 2] = 0, waiting, next_due_ms
  local parks, claimed = 0, 0
  while claimed < most and parks < PARKS_PER_CALL do
    local name, rank, queue = best_lane()
    if not name then break end
    local lane = read_lane(name)
    local gate = lane and first_shut_gate(lane)
    if not lane then -- its meta was deleted by hand; the next job admitted to it brings it back
      redis.call("ZREM", ready_key(queue), name)
    elseif gate then
      park(lane, rank, gate, now_ms)
      parks = parks + 1
    else
      local tag, payload, kills = start(lane)
      if tag then
        for _, value in ipairs({ tag, lane.queue, payload, kills }) do reply[#reply + 1] = value end
        claimed = claimed + 1
      else
        parks = parks + 1
      end
    end
  end

  if claimed > 0 and not renewed then
    redis.call("ZADD", timers_key, now_ms + lease_ms, "lease|" .. holder)
  end

  -- The baton: whoever claims leaves a token behind while more is ready, so workers wake one another. One on
  -- each queue, for there may be workers that serve only some of them.
  for i = 8, last_queue do
    if redis.call("EXISTS", ready_key(ARGV[i])) == 1 then
      reply[first] = 1
      wake(ARGV[i])
    end
  end
  return reply
end
