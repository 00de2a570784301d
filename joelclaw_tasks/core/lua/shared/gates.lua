-- gates: what can be shut. For each kind: how many more jobs may pass, take a place, give it back.
-- A gate is named "<kind>:<name>"; a keyed limit "<kind>:<name>=<value>" falls back to "<kind>:<name>".
local function limit_of(gate)
  local limit = redis.call("HGET", limits_key, gate)
  if limit then return tonumber(limit) end
  local base = string.match(gate, "^([^=]+)=")
  limit = base and redis.call("HGET", limits_key, base)
  if limit then return tonumber(limit) end
  -- One singleton at a time, wherever it was declared.
  return base and string.find(base, "limit:singleton/", 1, true) == 1 and 1 or nil
end

local function nothing() end

local GATE_KINDS = {
  limit = {
    room = function(gate)
      local limit = limit_of(gate)
      return limit and limit - redis.call("ZCARD", running_key(gate)) or math.huge
    end,
    take = function(gate, id, now_ms) redis.call("ZADD", running_key(gate), now_ms, id) end,
    free = function(gate, id) redis.call("ZREM", running_key(gate), id) end,
  },
  pause = {
    room = function(gate) return redis.call("HEXISTS", pauses_key, gate) == 1 and 0 or math.huge end,
    take = nothing,
    free = nothing,
  },
  -- A kind that only a newer release knows: its jobs wait for that release's workers.
  unknown = { room = function() return 0 end, take = nothing, free = nothing },
}

local function kind_of(gate) return GATE_KINDS[string.match(gate, "^(%a+):")] or GATE_KINDS.unknown end

-- How many more jobs may pass a gate now: none or fewer when it is shut, math.huge when it has no limit.
local function room(gate) return kind_of(gate).room(gate) end

-- The first shut gate of a lane, or nil. Pauses come first: they open for all lanes at once, so
-- a lane that waits there never holds the place that another lane could take.
local function first_shut_gate(lane)
  local pause
  if redis.call("HLEN", pauses_key) > 0 then
    for _, gate in ipairs({
      "pause:queue/" .. lane.queue, "pause:family/" .. lane.family, "pause:handler/" .. lane.handler,
    }) do
      pause = pause or room(gate) <= 0 and gate or nil
    end
  end
  if pause then
--@include drained
    lane.drained = drained_job(lane)
    if not lane.drained then return pause end
  end
  for gate in string.gmatch(lane.gates, "[^\n]+") do
    if room(gate) <= 0 then return gate end
  end
  return nil
end

local function take_gates(gates, id, now_ms)
  for gate in string.gmatch(gates, "[^\n]+") do kind_of(gate).take(gate, id, now_ms) end
end

local function free_gates(gates, id)
  for gate in string.gmatch(gates, "[^\n]+") do kind_of(gate).free(gate, id) end
end
