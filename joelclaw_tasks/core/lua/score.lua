-- score: held -> available, with the slack that the score stands for. Of any other job it is noted only.
-- ARGV: now, transitions_max, actor, then for each job: id, slack_ms and priority ("": as they are), and
-- what is to be known of the score (JSON). Reply, for each: SCORED | NOTED | MISSING | HELD_BY_PERSON
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include enter
--@include triage
local actor = ARGV[3]

local function score(id, slack_ms, priority, note)
  local job, entry = read_job(id), { actor = actor, triage = note }
  if not job then
    record("score", entry, "job", id)
    return "MISSING"
  end
  redis.call("HSET", job_key(id), "triage", note)
  if not is_held_for_score(job) then
    record("score", entry, "job", id, "family", job.family)
    return "NOTED"
  end
  end_hold(job)
  local is_steered = redis.call("HGET", job_key(id), "own_priority") -- while it was held
  local rank = tonumber(job.rank)
  if slack_ms ~= "" and not is_steered then
    redis.call("HSET", job_key(id), "slack_ms", slack_ms, "priority", priority, "own_priority",
      job.slack_ms .. "|" .. job.priority)
    count(job, "held", -1)
    rank = rank + tonumber(slack_ms) - tonumber(job.slack_ms)
    entry.from, entry.was, entry.priority = "held", job.priority, priority
    job.slack_ms, job.priority, job.state = slack_ms, priority, nil
  end
  set_available(job, rank, now_ms)
  move_job(job, "score", "available", entry)
  return is_steered and "HELD_BY_PERSON" or "SCORED"
end

local words = {}
for i = 4, #ARGV, 4 do words[#words + 1] = score(unpack(ARGV, i, i + 3)) end
write_counts()
return words
