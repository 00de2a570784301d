-- lanes: a lane is in exactly one place: ready, parked at the gate that stopped it, or gone.
--@include parking
local function read_lane(name)
  local values = redis.call("HMGET", lane_meta_key(name), "queue", "family", "handler", "gates", "parked")
  if not values[1] then return nil end
  return {
    name = name, queue = values[1], family = values[2], handler = values[3], gates = values[4],
    parked = values[5],
  }
end

local function head_of(lane_name) return redis.call("ZRANGE", lane_key(lane_name), 0, 0, "WITHSCORES") end

-- Puts a lane where its first job now belongs, or takes it away when it is empty.
local function settle_lane(lane)
  local head = head_of(lane.name)
  local spot = lane.parked ~= "" and spot_of(lane.parked, lane.queue)
  if head[1] then
    redis.call("ZADD", spot and parked_key(spot) or ready_key(lane.queue), head[2], lane.name)
    return
  end
  if spot then leave_spot(spot, lane.name) else redis.call("ZREM", ready_key(lane.queue), lane.name) end
  redis.call("SREM", lanes_key(lane.queue), lane.name)
  redis.call("DEL", lane_meta_key(lane.name))
  pass_on(lane.gates)
end

-- The registry changed: other gates stand before a lane from now on, so it looks again, and what it may
-- have been brought back for goes to another.
local function change_gates(lane, gates)
  redis.call("HSET", lane_meta_key(lane.name), "gates", gates, "parked", "", "parked_at", "")
  if lane.parked ~= "" then leave_spot(spot_of(lane.parked, lane.queue), lane.name) end
  pass_on(lane.gates)
  lane.gates, lane.parked = gates, ""
end

-- Puts a job into its lane by its rank; a new lane starts ready, and its gates are checked at claim.
-- `is_new`: the job was just handed over, so its gates are those that the registry gives its lane now.
local function enqueue(job, is_new)
  redis.call("ZADD", lane_key(job.lane), job.rank, job.id)
  local lane = read_lane(job.lane)
  if lane and lane.gates == job.gates and head_of(job.lane)[1] ~= job.id then
    if lane.parked == "" then wake(lane.queue) end
    return -- behind another job of its lane: the lane stays where it is
  end
  if not lane then
    lane = { name = job.lane, queue = job.queue, gates = job.gates, parked = "" }
    redis.call("HSET", lane_meta_key(job.lane), "queue", job.queue, "family", job.family,
      "handler", job.handler, "gates", job.gates, "parked", "")
    redis.call("SADD", lanes_key(job.queue), job.lane)
    redis.call("SADD", queues_key, job.queue)
  elseif is_new and lane.gates ~= job.gates then
    change_gates(lane, job.gates)
  elseif lane.parked ~= "" and room((parse_line(lane.parked))) > 0 then
    -- A place is free there and another lane was brought back for it; with this job first, this lane's rank
    -- may be the better one, so it looks again.
    redis.call("HSET", lane_meta_key(lane.name), "parked", "", "parked_at", "")
    leave_spot(spot_of(lane.parked, lane.queue), lane.name)
    lane.parked = ""
  end
  settle_lane(lane)
  if lane.parked == "" then wake(lane.queue) end
end
