-- heavier_waits: keeps jobs that take several places of a limit from waiting for ever.
-- Whether a lane of a better rank waits at a gate for more places than this one needs: were it overtaken
-- whenever there is a place too few for it, it would never start. One that needs more than all of them holds
-- up nobody.
local function heavier_waits(gate, weight, most, lane)
  local low, high = "[" .. gate .. "\t", "(" .. gate .. "\n"
  for _, spot in ipairs(redis.call("ZRANGEBYLEX", parked_gates_key, low, high)) do
    local line, queue = string.match(spot, "^([^\n]*)\n(.*)$")
    local _, other = parse_line(line)
    if queue == lane.queue and other > weight and other <= most then
      local head = redis.call("ZRANGE", parked_key(spot), 0, 0, "WITHSCORES")
      local rank = lane.rank or redis.call("ZRANGE", lane_key(lane.name), 0, 0, "WITHSCORES")[2]
      if tonumber(head[2]) < tonumber(rank) then return true end
    end
  end
  return false
end
