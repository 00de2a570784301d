-- release: executing -> available, with its old rank. No attempt is burned unless its process died.
-- ARGV: now, transitions_max, max_kills, killed (0|1), reason, tags.
-- Reply, for each tag: RELEASED | RETRIED | DISCARDED | LEASE_LOST
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local max_kills, killed, reason = tonumber(ARGV[3]), ARGV[4] == "1", ARGV[5]
--@include leave
local words = {}
for i = 6, #ARGV do
  local job = leased_job(ARGV[i])
  if job then
    local entry = run_times(job, now_ms)
    entry.reason = reason
    words[#words + 1] = give_back(job, "release", now_ms, killed, max_kills, entry)
  else
    words[#words + 1] = "LEASE_LOST"
  end
end
write_counts()
return words
