-- complete: executing -> completed. Takes any number of delivery tags.
-- ARGV: now, transitions_max, tags. Reply, for each tag: COMPLETED | RETRIED | LEASE_LOST
--@include keys
--@include drain
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include leave
local words = {}
for i = 3, #ARGV do
  local job = leased_job(ARGV[i])
  if not job then
    words[#words + 1] = "LEASE_LOST"
  else
    local entry = run_times(job, now_ms)
    local gates = end_lease(job)
    if succeed(job, now_ms, entry) then
      words[#words + 1] = "RETRIED"
    else
      move_job(job, "complete", "completed", now_ms, entry)
      forget(job, "completed", now_ms)
      words[#words + 1] = "COMPLETED"
    end
    pass_on(gates)
  end
end
return words
