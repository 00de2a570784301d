-- priority: gives waiting jobs another slack; their ranks move by the difference. With a ttl and a family as
-- target, jobs of the family that are admitted until then get it too.
-- ARGV as in shared/bulk.lua, with slack_ms and priority. Word: PRIORITIZED | UNCHANGED | MISSING |
-- WRONG_STATE | HELD_BY_PERSON; that one alone when a person's control of the family is in force.
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include bulk
local UNDO_WITHIN_MS = 86400000
local slack_ms, priority = tonumber(ARGV[8]), tonumber(ARGV[9])
local before = control_of("priority", target)
if before and before.id ~= id and is_refused("priority", before, actor, reason) then
  return { "", { "HELD_BY_PERSON" } }
end
local act = begin_act("priority")
if id == "" and ttl_ms > 0 then set_control(act, slack_ms .. "|" .. priority, "", now_ms) end

local reply = for_each_job(act, 10, function(job, entry)
  if not WAITING[job.state] then return nil end
  local known = redis.call("HMGET", job_key(job.id), "steered_by", "own_priority")
  local is_same = tonumber(job.slack_ms) == slack_ms and tonumber(job.priority) == priority
  -- A person who asks for what it has already means that it stays so.
  if is_same and (known[2] and is_person(known[1]) or not is_person(actor)) then return "UNCHANGED" end
  note_steered(job, act, tonumber(job.slack_ms) * 4 + tonumber(job.priority))
  redis.call("HSETNX", job_key(job.id), "own_priority", job.slack_ms .. "|" .. job.priority)
  if is_same then return "UNCHANGED" end
  rerank(job, slack_ms, priority, "priority", entry)
  return "PRIORITIZED"
end)
write_counts()
redis.call("PEXPIRE", touched_key(act.id), UNDO_WITHIN_MS)
return reply
