-- bulk: one act on many jobs, some of them a call. The first call makes the act, the next ones name it.
-- ARGV: now, transitions_max, actor, reason, target (what was chosen, for people), ttl_ms, act ("" the first
-- time), then as many values as the verb needs, and ids. Reply: {act, a word for each id}.
--@include revert
local actor, reason, target, ttl_ms, id = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]

local function begin_act(verb)
  local known = id ~= "" and redis.call("HGET", acts_key, id)
  if known then return cjson.decode(known) end
  return new_act(verb, target, ttl_ms, actor, reason, now_ms, { target = target })
end

-- Notes who steered a job, and what undo needs.
local function note_steered(job, act, was)
  redis.call("HSET", job_key(job.id), "steered", act.id, "steered_by", actor)
  redis.call("ZADD", touched_key(act.id), "NX", was, job.id)
end

-- Carries out `change` for each id from ARGV[first] on: it gets the job and the fields of its entry, and
-- answers a word, or nil when the verb does not apply to the job's state.
local function for_each_job(act, first, change)
  local words = {}
  for i = first, #ARGV do
    local job = read_job(ARGV[i])
    if not job then
      words[#words + 1] = "MISSING"
    elseif is_held(actor, redis.call("HGET", job_key(job.id), "steered_by")) then
      words[#words + 1] = "HELD_BY_PERSON"
    else
      words[#words + 1] = change(job, { actor = actor, reason = reason, control = act.id }) or "WRONG_STATE"
    end
  end
  settle_lanes()
  return { act.id, words }
end
