-- gates: what can be shut. How many more jobs may pass, take a place, give it back.
-- A gate is named "<kind>:<name>"; it sets each "<kind>:<name>=<value>" that has nothing of
-- its own. A lane has a line for each of its gates: the name and, after a tab, its weight: the places that
-- one job takes, where that is more than one. A line "share:..." shuts nothing (see shares.lua).
--@gives parse_line room bucket_of first_shut_gate take_gates free_gates
local function parse_line(line)
  local tab = string.find(line, "\t", 1, true)
  if not tab then return line, 1 end
  return string.sub(line, 1, tab - 1), tonumber(string.sub(line, tab + 1))
end

local function setting_of(settings, gate)
  local base = string.match(gate, "^([^=]+)=")
  if not base then return redis.call("HGET", settings, gate) end
  local found = redis.call("HMGET", settings, gate, base)
  return found[1] or found[2]
end

-- The bucket of a rate, when this many more jobs are taken from it: when the next one is expected (TAT), the
-- time between two jobs, and its burst; nil without a rate. GCRA as virtual scheduling: ITU-T I.371 (2004),
-- annex A. A TAT is never more than a full burst ahead: neither a clock that went back nor a new rate shuts
-- the gate for longer. It is kept longer than it says anything, for the clock of a caller may be behind.
local function bucket_of(gate, taken)
  local rate = setting_of(rates_key, gate)
  if not rate then return nil end
  local limit, period_ms, burst = string.match(rate, "^(%d+) (%d+) (%d+)$")
  local interval_ms = period_ms / limit
  local known, latest = tonumber(redis.call("GET", tat_key(gate)) or 0), now_ms + burst * interval_ms
  local tat = math.max(math.min(known, latest), now_ms) + taken * interval_ms
  if taken > 0 or known > latest then
    redis.call("SET", tat_key(gate), tat, "PX", math.ceil(tat - now_ms) + 10000)
  end
  return tat, interval_ms, tonumber(burst)
end

-- How many more places a gate has now: none or fewer when it is shut, math.huge when nothing limits it; and
-- how many it has at most.
local function room(gate)
  local kind = string.sub(gate, 1, 6)
  if kind == "limit:" then
    local limit = tonumber(setting_of(limits_key, gate) or nil)
    if not limit then
      -- One singleton at a time, wherever it was declared.
      if string.sub(gate, 1, 16) ~= "limit:singleton/" then return math.huge, math.huge end
      limit = 1
    end
    return limit - redis.call("ZCARD", running_key(gate)), limit
  elseif kind == "share:" then
    return math.huge, math.huge
  elseif kind == "pause:" then
    return redis.call("HEXISTS", pauses_key, gate) == 1 and 0 or math.huge, math.huge
  elseif string.sub(gate, 1, 5) == "rate:" then
    local tat, interval_ms, burst = bucket_of(gate, 0)
    if not tat then return math.huge, math.huge end
    return math.floor((now_ms - tat) / interval_ms + burst + 1e-9), burst -- a token is whole but for rounding
  end
  return 0, 0 -- a kind that only a newer release knows: its jobs wait for that release's workers
end

-- The line of the first shut gate of a lane, or nil. Pauses come first: they open for all lanes at once, so a
-- lane that waits there never holds the place that another could take; rates last, for the same reason.
local function first_shut_gate(lane)
  local pause, limit, rate
  if redis.call("HLEN", pauses_key) > 0 then
    for _, gate in ipairs({
      "pause:queue/" .. lane.queue, "pause:family/" .. lane.family, "pause:handler/" .. lane.handler,
    }) do
      pause = pause or room(gate) <= 0 and gate or nil
    end
  end
  for line in string.gmatch(lane.gates, "[^\n]+") do
    local gate, weight = parse_line(line)
    local places, most = room(gate)
    if string.sub(gate, 1, 5) == "rate:" then
      rate = rate or places < weight and line or nil
    elseif places < weight then
      limit = line
      break
    elseif most < math.huge then
--@include heavier_waits
      if heavier_waits(gate, weight, most, lane) then
        limit = line
        break
      end
    end
  end
  if pause or (rate and not limit) then
--@include drained
    lane.drained = drained_job(lane)
    if not lane.drained then return pause or rate end
  end
  return limit
end

local function take_gates(gates, id, now_ms)
  for line in string.gmatch(gates, "[^\n]+") do
    local gate, weight = parse_line(line)
    if string.sub(gate, 1, 6) == "limit:" then
      redis.call("ZADD", running_key(gate), now_ms, id)
      for place = 2, weight do redis.call("ZADD", running_key(gate), now_ms, id .. "\t" .. place) end
    elseif string.sub(gate, 1, 5) == "rate:" then
      bucket_of(gate, 1)
    end
  end
end

local function free_gates(gates, id)
  for line in string.gmatch(gates, "[^\n]+") do
    local gate, weight = parse_line(line)
    if string.sub(gate, 1, 6) == "limit:" then
      redis.call("ZREM", running_key(gate), id)
      for place = 2, weight do redis.call("ZREM", running_key(gate), id .. "\t" .. place) end
    end
  end
end
