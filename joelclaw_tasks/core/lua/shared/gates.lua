-- gates: anything that can be shut. One entry per kind: may a job pass, take a place, give it back.
-- A gate is named "<kind>:<name>"; a keyed limit "<kind>:<name>=<value>" falls back to "<kind>:<name>".
local function limit_of(gate)
  local limit = redis.call("HGET", limits_key, gate)
  if limit then return tonumber(limit) end
  local base = string.match(gate, "^([^=]+)=")
  limit = base and redis.call("HGET", limits_key, base)
  return limit and tonumber(limit)
end

local GATE_KINDS = {
  limit = {
    shut = function(gate)
      local limit = limit_of(gate)
      return limit and redis.call("ZCARD", running_key(gate)) >= limit
    end,
    take = function(gate, id, now_ms) redis.call("ZADD", running_key(gate), now_ms, id) end,
    free = function(gate, id) return redis.call("ZREM", running_key(gate), id) == 1 end,
  },
  pause = {
    shut = function(gate) return redis.call("HEXISTS", pauses_key, gate) == 1 end,
    take = function() end,
    free = function() return false end,
  },
}

local function kind_of(gate) return GATE_KINDS[string.match(gate, "^(%a+):")] end

-- The first shut gate of a lane, or nil. Pauses come first: they open for all lanes at once, so
-- a lane that waits there never holds the place that another lane could take.
local function first_shut_gate(lane)
  if redis.call("HLEN", pauses_key) > 0 then
    for _, gate in ipairs({
      "pause:queue/" .. lane.queue, "pause:family/" .. lane.family, "pause:handler/" .. lane.handler,
    }) do
      if kind_of(gate).shut(gate) then return gate end
    end
  end
  for gate in string.gmatch(lane.gates, "[^\n]+") do
    if kind_of(gate).shut(gate) then return gate end
  end
  return nil
end

local function take_gates(gates, id, now_ms)
  for gate in string.gmatch(gates, "[^\n]+") do kind_of(gate).take(gate, id, now_ms) end
end
