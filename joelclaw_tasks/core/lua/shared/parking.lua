-- parking: a lane that a gate stops waits there, out of the way, until there is something for it.
--@include gates
--@gives spot_of spots_of leave_spot unpark pass_on await_token park look_again change_gates
-- Where lanes of one queue and one weight wait at a gate. Were all queues to wait in one place, a freed place
-- could go to a queue whose workers are away or busy, and lanes of the others would wait at an open gate.
local function spot_of(line, queue) return line .. "\n" .. queue end

local function spots_of(gate) -- a tab, which comes before the weight, comes before a new line
  return redis.call("ZRANGEBYLEX", parked_gates_key, "[" .. gate .. "\t", "(" .. gate .. "\n\255")
end

local function leave_spot(spot, lane_name)
  redis.call("ZREM", parked_key(spot), lane_name)
  if redis.call("EXISTS", parked_key(spot)) == 0 then redis.call("ZREM", parked_gates_key, spot) end
end

-- Brings the first `most` lanes of a spot back.
local function unpark_spot(spot, queue, most)
  local popped = redis.call("ZPOPMIN", parked_key(spot), most)
  for i = 1, #popped, 2 do
    redis.call("HSET", lane_meta_key(popped[i]), "parked", "", "parked_at", "")
    redis.call("ZADD", ready_key(queue), popped[i + 1], popped[i])
  end
  if redis.call("EXISTS", parked_key(spot)) == 0 then redis.call("ZREM", parked_gates_key, spot) end
  return #popped / 2
end

-- Brings up to `most` lanes of each queue back from a gate with `places` of its `all` free: best rank first,
-- and no more than fit. Answers the most that came back to one queue.
local function unpark(gate, most, places, all)
  local came, queues = 0, {}
  for _, spot in ipairs(spots_of(gate)) do
    local line, queue = string.match(spot, "^([^\n]*)\n(.*)$")
    local _, weight = parse_line(line)
    queues[queue] = queues[queue] or {}
    if weight <= all then table.insert(queues[queue], { name = spot, weight = weight }) end
  end
  for queue, spots in pairs(queues) do
    local left, moved = places, 0
    if #spots == 1 then
      local fit = math.min(most, math.floor(left / spots[1].weight))
      moved = fit > 0 and unpark_spot(spots[1].name, queue, fit) or 0
    else
--@include unpark_by_weight
      moved = unpark_by_weight(spots, queue, most, left)
    end
    if moved > 0 then wake(queue) end
    came = math.max(came, moved)
  end
  return came
end

-- A lane that was brought back for free places and did not take them passes them on, as one that ends does;
-- without this, lanes parked at an open gate would wait for ever.
local function pass_on(gates)
  for line in string.gmatch(gates, "[^\n]+") do
    local gate, weight = parse_line(line)
    if #spots_of(gate) > 0 then
      local places, all = room(gate)
      if places > 0 then unpark(gate, weight, places, all) end
    end
  end
end

-- Sets the timer of a rate for when it lets one more job pass than the `given` that may pass now.
local function await_token(gate, given)
  local tat, interval_ms, burst = bucket_of(gate, 0)
  if not tat then return end
  local due_at = math.max(math.ceil(tat + (given + 1 - burst) * interval_ms), now_ms + 1)
  redis.call("ZADD", timers_key, "LT", due_at, "rate|" .. gate)
end

local function park(lane, line, now_ms)
  local spot = spot_of(line, lane.queue)
  redis.call("ZREM", ready_key(lane.queue), lane.name)
  redis.call("ZADD", parked_key(spot), lane.rank, lane.name)
  redis.call("ZADD", parked_gates_key, 0, spot)
  redis.call("HSET", lane_meta_key(lane.name), "parked", line, "parked_at", now_ms)
  if string.sub(line, 1, 5) == "rate:" then await_token(line, 0) end
  pass_on(lane.gates)
end

-- A parked lane looks at its gates once more.
local function look_again(lane)
  redis.call("HSET", lane_meta_key(lane.name), "parked", "", "parked_at", "")
  leave_spot(spot_of(lane.parked, lane.queue), lane.name)
  lane.parked = ""
end

-- The registry changed: other gates stand before a lane from now on, so it looks again, and what it may
-- have been brought back for goes to another.
local function change_gates(lane, gates)
  redis.call("HSET", lane_meta_key(lane.name), "gates", gates, "parked", "", "parked_at", "")
  if lane.parked ~= "" then leave_spot(spot_of(lane.parked, lane.queue), lane.name) end
  pass_on(lane.gates)
  lane.gates, lane.parked = gates, ""
end
