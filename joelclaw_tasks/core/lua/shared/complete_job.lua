-- complete_job: what `complete` does with one delivery tag. Answers COMPLETED, RETRIED or LEASE_LOST.
--@include leave
local function complete_job(tag)
  local job = leased_job(tag)
  if not job then return "LEASE_LOST" end
  local word = "RETRIED"
  local entry = run_times(job, now_ms)
  local gates = end_lease(job)
  if not succeed(job, now_ms, entry) then
    move_job(job, "complete", "completed", now_ms, entry)
    forget(job, "completed", now_ms)
    word = "COMPLETED"
  end
  pass_on(gates)
  return word
end
