-- cancel: scheduled | available | retryable -> cancelled. A running job is left alone.
-- ARGV: now, transitions_max, actor, reason, ids. Reply, for each id: CANCELLED | MISSING | WRONG_STATE
--@include keys
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local actor, reason = ARGV[3], ARGV[4]
--@include leave
local function cancel(id)
  local job = read_job(id)
  if not job then return "MISSING" end
  if job.state == "available" then
    local lane = read_lane(job.lane)
    redis.call("ZREM", lane_key(job.lane), id)
    settle_lane(lane)
    pass_on(lane.gates) -- the lane's rank may be worse now than that of a lane parked at the same gate
  elseif job.state == "scheduled" or job.state == "retryable" then
    redis.call("ZREM", timers_key, "job|" .. id)
  else
    return "WRONG_STATE"
  end
  move_job(job, "cancel", "cancelled", now_ms, { actor = actor, reason = reason })
  forget(job, "cancelled", now_ms)
  return "CANCELLED"
end

local words = {}
for i = 5, #ARGV do words[#words + 1] = cancel(ARGV[i]) end
write_counts()
return words
