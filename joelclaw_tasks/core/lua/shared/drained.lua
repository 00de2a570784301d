-- drained: the job of a lane that passes pauses and rates, because its name is being drained: the first one
-- admitted before that began. Later ones of a better rank may stand before it, so some are looked through.
-- A drain of one job, "job <id>", lets out that one only.
local function drained_job(lane)
  local LOOKED_THROUGH = 1000
  if redis.call("EXISTS", drains_key) == 0 then return nil end
  local drains = redis.call("HMGET", drains_key, "pause:queue/" .. lane.queue, "pause:family/" .. lane.family,
    "pause:handler/" .. lane.handler)
  for i = 1, 3 do
    local id = drains[i] and string.match(drains[i], "^job (.*)$")
    if id and redis.call("ZSCORE", lane_key(lane.name), id) then return id end
  end
  local until_ms = math.max(tonumber(drains[1]) or 0, tonumber(drains[2]) or 0, tonumber(drains[3]) or 0)
  if until_ms == 0 then return nil end
  for _, id in ipairs(redis.call("ZRANGE", lane_key(lane.name), 0, LOOKED_THROUGH - 1)) do
    if tonumber(redis.call("HGET", job_key(id), "admitted_at") or 0) <= until_ms then return id end
  end
  return nil
end
