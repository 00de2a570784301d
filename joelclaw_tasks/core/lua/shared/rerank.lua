-- rerank: moves waiting jobs; at the end `settle_lanes` lets each lane look at what became of its first one.
local WAITING = { scheduled = true, held = true, available = true, retryable = true }
local moved_lanes = {}

local function settle_lanes()
  for name in pairs(moved_lanes) do
    local lane = read_lane(name) -- read now: the lane before may have passed a place on to this one
    if lane then
      -- A place is free there and another lane was brought back for it; this one's rank may be better now.
      if lane.parked ~= "" and room((parse_line(lane.parked))) > 0 then look_again(lane) end
      settle_lane(lane)
      pass_on(lane.gates) -- its rank may be worse now than that of a lane parked at the same gate
      if lane.parked == "" then wake(lane.queue) end
    end
  end
end

-- Another slack, and the priority that it stands for. The job's rank moves by the difference.
local function rerank(job, slack_ms, priority, verb, entry)
  local rank = job.rank and tonumber(job.rank) + slack_ms - tonumber(job.slack_ms)
  redis.call("HSET", job_key(job.id), "slack_ms", slack_ms, "priority", priority)
  if rank then redis.call("HSET", job_key(job.id), "rank", rank) end
  if job.state == "available" then
    moved_lanes[job.lane] = true
    redis.call("ZADD", lane_key(job.lane), "XX", rank, job.id)
  end
  entry.from, entry.was, entry.priority = job.state, job.priority, priority
  count(job, job.state, -1)
  job.priority, job.state = tostring(priority), nil
  move_job(job, verb, entry.from, entry)
end
