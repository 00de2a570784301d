-- start_job: hands the first job of a lane whose gates are open to `holder`. Answers its tag, message and
-- kills, and whether the lane has more; or nil when the job was over already.
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
    move_job(job, "cancel", "cancelled", { actor = "expiry", reason = "expired" })
    forget(job, "cancelled", now_ms)
    payload = nil
  end
  if not payload then -- or its hash was deleted by hand: nothing is left to run
    settle_lane(lane)
    return nil
  end
  if lane.gates ~= "" then take_gates(lane.gates, id, now_ms) end
  if next_rank then redis.call("ZADD", ready_key(lane.queue), next_rank, lane.name) else end_lane(lane) end
  local job = {
    id = id, state = "available", queue = lane.queue, family = family, handler = handler, lane = lane.name,
    priority = priority, claims = tostring(tonumber(claims) + 1), trace = trace, admitted_at = admitted_at,
  }
  redis.call("HSET", job_key(id), "state", "executing", "claims", job.claims, "holder", holder,
    "claimed_at", now, "gates", lane.gates)
  redis.call("ZADD", leases_key(holder), now, id)
  move_job(job, "claim", "executing", {
    wait_ms = now_ms - tonumber(available_at), attempt = job.claims, holder = holder, gates = lane.gates,
  })
  return tag_of(job), payload, kills, next_rank ~= nil
end
