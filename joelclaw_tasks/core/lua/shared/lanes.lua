-- lanes: a lane is in exactly one place: ready, parked at the gate that stopped it, or gone.
local BATCH = 1000 -- the most lanes that one script moves for one gate, so that a million never stop Redis

-- The queues from which this very call claims in the end. Nobody else is woken for what comes to them before:
-- it claims that too, and leaves a token for what it leaves.
local claims_from = {}

local function wake(queue)
  if claims_from[queue] then return end
  if redis.call("LLEN", wake_key(queue)) == 0 then redis.call("LPUSH", wake_key(queue), "1") end
end

--@lazy parking
local function read_lane(name)
  local values = redis.call("HMGET", lane_meta_key(name), "queue", "family", "handler", "gates", "parked")
  if not values[1] then return nil end
  return {
    name = name, queue = values[1], family = values[2], handler = values[3], gates = values[4],
    parked = values[5],
  }
end

local function head_of(lane_name) return redis.call("ZRANGE", lane_key(lane_name), 0, 0, "WITHSCORES") end

-- Takes an empty lane away.
local function end_lane(lane)
  if lane.parked == "" then
    redis.call("ZREM", ready_key(lane.queue), lane.name)
  else
    leave_spot(spot_of(lane.parked, lane.queue), lane.name)
  end
  redis.call("SREM", lanes_key(lane.queue), lane.name)
  redis.call("DEL", lane_meta_key(lane.name))
  if lane.gates ~= "" then pass_on(lane.gates) end
end

-- Puts a lane where its first job now belongs, or takes it away when it is empty.
local function settle_lane(lane)
  local head = head_of(lane.name)
  if not head[1] then
    end_lane(lane)
  elseif lane.parked == "" then
    redis.call("ZADD", ready_key(lane.queue), head[2], lane.name)
  else
    redis.call("ZADD", parked_key(spot_of(lane.parked, lane.queue)), head[2], lane.name)
  end
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
    look_again(lane)
  end
  settle_lane(lane)
  if lane.parked == "" then wake(lane.queue) end
end
