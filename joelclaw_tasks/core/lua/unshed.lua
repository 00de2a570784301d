-- unshed: held -> what it was before it was shed, with its old rank.
-- ARGV as in shared/bulk.lua. Word: UNSHED | MISSING | WRONG_STATE | HELD_BY_PERSON
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include bulk
local act = begin_act("unshed")
local lots = {}

local reply = for_each_job(act, 8, function(job, entry)
  if job.state ~= "held" or redis.call("HGET", job_key(job.id), "held_for") ~= "shed" then return nil end
  lots[unshed(job, "unshed", now_ms, entry)] = true
  return "UNSHED"
end)
for lot in pairs(lots) do end_shed(lot) end
write_counts()
return reply
