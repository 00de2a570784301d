-- revive: discarded -> available, as if it were new: its kills are forgiven. What was refused stays so.
-- ARGV: now, transitions_max, actor, reason, ids. Reply, for each id: REVIVED | MISSING | WRONG_STATE
--@include keys
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local actor, reason = ARGV[3], ARGV[4]
--@include leave
local words = {}
for i = 5, #ARGV do
  local job = read_job(ARGV[i])
  if not job then
    words[#words + 1] = "MISSING"
  elseif job.state ~= "discarded" or job.refused then
    words[#words + 1] = "WRONG_STATE"
  else
    redis.call("ZREM", dead_key, job.id)
    redis.call("HDEL", job_key(job.id), "error", "discarded_at")
    redis.call("HSET", job_key(job.id), "kills", 0)
    set_available(job, now_ms + tonumber(job.slack_ms), now_ms)
    move_job(job, "revive", "available", now_ms, { actor = actor, reason = reason })
    words[#words + 1] = "REVIVED"
  end
end
write_counts()
return words
