-- lanes: a lane is in exactly one place: ready, parked at the gate that stopped it, or gone.
--@include gates
local function wake(queue)
  if redis.call("LLEN", wake_key(queue)) == 0 then redis.call("LPUSH", wake_key(queue), "1") end
end

local function read_lane(name)
  local values = redis.call("HMGET", lane_meta_key(name), "queue", "family", "handler", "gates", "parked")
  if not values[1] then return nil end
  return {
    name = name, queue = values[1], family = values[2], handler = values[3], gates = values[4],
    parked = values[5],
  }
end

local function head_of(lane_name) return redis.call("ZRANGE", lane_key(lane_name), 0, 0, "WITHSCORES") end

-- Brings up to `most` lanes back from a gate, best rank first. Answers how many came.
local function unpark(gate, most)
  local popped = redis.call("ZPOPMIN", parked_key(gate), most)
  for i = 1, #popped, 2 do
    local queue = redis.call("HGET", lane_meta_key(popped[i]), "queue")
    redis.call("HSET", lane_meta_key(popped[i]), "parked", "", "parked_at", "")
    redis.call("ZADD", ready_key(queue), popped[i + 1], popped[i])
    wake(queue)
  end
  if redis.call("EXISTS", parked_key(gate)) == 0 then redis.call("ZREM", parked_gates_key, gate) end
  return #popped / 2
end

-- A lane that was brought back for a free place and did not take it passes the place on; without
-- this, lanes parked at an open gate would wait for ever.
local function pass_on(gates)
  for gate in string.gmatch(gates, "[^\n]+") do
    if redis.call("EXISTS", parked_key(gate)) == 1 and not kind_of(gate).shut(gate) then unpark(gate, 1) end
  end
end

local function free_gates(gates, id)
  for gate in string.gmatch(gates, "[^\n]+") do kind_of(gate).free(gate, id) end
  pass_on(gates)
end

local function park(lane, rank, gate, now_ms)
  redis.call("ZREM", ready_key(lane.queue), lane.name)
  redis.call("ZADD", parked_key(gate), rank, lane.name)
  redis.call("ZADD", parked_gates_key, 0, gate)
  redis.call("HSET", lane_meta_key(lane.name), "parked", gate, "parked_at", now_ms)
  pass_on(lane.gates)
end

-- Puts a lane where its first job now belongs, or takes it away when it is empty.
local function settle_lane(lane)
  local head = head_of(lane.name)
  local place = lane.parked ~= "" and parked_key(lane.parked) or ready_key(lane.queue)
  if head[1] then
    redis.call("ZADD", place, head[2], lane.name)
    return
  end
  redis.call("ZREM", place, lane.name)
  redis.call("SREM", lanes_key(lane.queue), lane.name)
  redis.call("DEL", lane_meta_key(lane.name))
  if lane.parked ~= "" and redis.call("EXISTS", place) == 0 then
    redis.call("ZREM", parked_gates_key, lane.parked)
  end
  pass_on(lane.gates)
end

-- Puts a job into its lane by its rank; a new lane starts ready, and its gates are checked at claim.
local function enqueue(job)
  redis.call("ZADD", lane_key(job.lane), job.rank, job.id)
  local lane = read_lane(job.lane)
  if not lane then
    lane = { name = job.lane, queue = job.queue, gates = job.gates, parked = "" }
    redis.call("HSET", lane_meta_key(job.lane), "queue", job.queue, "family", job.family,
      "handler", job.handler, "gates", job.gates, "parked", "")
    redis.call("SADD", lanes_key(job.queue), job.lane)
  elseif lane.gates ~= job.gates then
    -- The registry changed. The gate where the lane waits may be none of its own now: look again.
    redis.call("HSET", lane_meta_key(job.lane), "gates", job.gates, "parked", "")
    if lane.parked ~= "" then redis.call("ZREM", parked_key(lane.parked), job.lane) end
    lane.gates, lane.parked = job.gates, ""
  end
  settle_lane(lane)
  if lane.parked == "" then wake(job.queue) end
end
