-- leave: how a job stops executing, whatever the reason.
--@include job
--@include lanes
--@include forget
-- The job of a delivery tag, only while the tag owns it.
local function leased_job(tag)
  local id = string.match(tag, "^(.*)#%d+#%d+$")
  local job = id and read_job(id)
  if job and job.state == "executing" and tag_of(job) == tag then return job end
  return nil
end

-- Ends the lease and gives the places back. Answers their gates: the caller first puts the job where it
-- now belongs and then calls `pass_on` with them, so that a better rank of its own is not overtaken.
local function end_lease(job)
  redis.call("ZREM", leases_key(job.holder), job.id)
  if job.gates ~= "" then free_gates(job.gates, job.id) end
  return job.gates
end

local function run_times(job, now_ms)
  local claimed_at = tonumber(job.claimed_at)
  local wait_ms = claimed_at - tonumber(job.available_at)
  return { wait_ms = wait_ms, run_ms = now_ms - claimed_at, attempt = job.claims }
end

--@lazy succeed
