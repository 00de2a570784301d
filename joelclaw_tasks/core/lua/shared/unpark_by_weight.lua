-- unpark_by_weight: brings lanes of several weights back, best rank first. One that does not fit holds back
-- those of a worse rank, as `heavier_waits` says.
local function unpark_by_weight(spots, queue, most, left)
  local moved = 0
  while moved < most do
    local best, best_rank
    for _, spot in ipairs(spots) do
      local rank = tonumber(redis.call("ZRANGE", parked_key(spot.name), 0, 0, "WITHSCORES")[2])
      if rank and (not best or rank < best_rank or (rank == best_rank and spot.weight < best.weight)) then
        best, best_rank = spot, rank
      end
    end
    if not best or best.weight > left then break end
    unpark_spot(best.name, queue, 1)
    left, moved = left - best.weight, moved + 1
  end
  return moved
end
