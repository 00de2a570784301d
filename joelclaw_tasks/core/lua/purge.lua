-- purge: discarded -> cancelled. The job's message and its failure are deleted.
-- ARGV: now, transitions_max, actor, reason, discarded until ("": whenever), ids.
-- Reply, for each id: PURGED | MISSING | WRONG_STATE
--@include keys
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local actor, reason, until_ms = ARGV[3], ARGV[4], tonumber(ARGV[5]) or math.huge
--@include leave
--@include exhume
local function purge(id)
  local job = read_job(id)
  if not job then -- its hash was deleted by hand: nothing is left to keep
    redis.call("ZREM", dead_key, id)
    return "MISSING"
  end
  local discarded_at = redis.call("ZSCORE", dead_key, id)
  if not discarded_at or tonumber(discarded_at) > until_ms then return "WRONG_STATE" end
  exhume(id)
  move_job(job, "purge", "cancelled", { actor = actor, reason = reason })
  forget(job, "cancelled", now_ms)
  return "PURGED"
end

local words = {}
for i = 6, #ARGV do words[#words + 1] = purge(ARGV[i]) end
write_counts()
return words
