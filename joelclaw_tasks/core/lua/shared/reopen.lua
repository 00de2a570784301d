-- reopen: brings lanes back from a gate that has opened, a batch at a time.
--@include leave
-- As many lanes as may pass the gate.
local function unpark_all(gate, now_ms)
  local places, all = room(gate)
  places = math.max(places, 0)
  local came = places > 0 and unpark(gate, math.min(places, BATCH), places, all) or 0
  if came == BATCH then
    redis.call("ZADD", timers_key, now_ms, "unpark|" .. gate)
  elseif string.sub(gate, 1, 5) == "rate:" and #spots_of(gate) > 0 then
    await_token(gate, places)
  end
  return came
end

-- The same for every gate keyed below one, in the order of their names; `after` is where to go on.
local function unpark_keyed(gate, after, now_ms)
  local low = after == "" and "[" .. gate .. "=" or "(" .. after
  local spots = redis.call("ZRANGEBYLEX", parked_gates_key, low, "(" .. gate .. "=\255", "LIMIT", 0, BATCH)
  local came = 0
  for i, spot in ipairs(spots) do
    came = came + unpark_all(string.match(spot, "^[^\t\n]+"), now_ms)
    if came >= BATCH or i == BATCH then
      redis.call("ZADD", timers_key, now_ms, "reopen|" .. gate .. "\n" .. spot)
      return
    end
  end
end
