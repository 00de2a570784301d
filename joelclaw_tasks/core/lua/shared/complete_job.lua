-- complete_job: what `complete` does with one delivery tag. Answers COMPLETED, RETRIED, CANCELLED (it was
-- asked to stop) or LEASE_LOST.
--@include leave
local function complete_job(tag)
  local job = leased_job(tag)
  if not job then return "LEASE_LOST" end
  local entry = run_times(job, now_ms)
  local gates = end_lease(job)
  local word = (job.next or job.rules) and succeed(job, now_ms, entry)
  if not word then
    move_job(job, "complete", "completed", entry)
    forget(job, "completed", now_ms)
    word = "COMPLETED"
  end
  if gates ~= "" then pass_on(gates) end
  return word
end
