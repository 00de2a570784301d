-- bury: into the dead letter, where jobs that failed alike are found together by their signature.
-- Few jobs fail, so this is included where one does: a function costs something in every call.
--@include job
-- `failure`: error, and either signature, place and traceback, or the kind of what only Redis knows of.
local function bury(job, verb, now_ms, failure, entry)
  -- The first `most` bytes of a text, cut between two characters.
  local function shortened(text, most)
    if #text <= most then return text end
    return (string.gsub(string.sub(text, 1, most), "[\192-\255][\128-\191]*$", ""))
  end

  local signature, place = failure.signature, failure.place
  if not signature then
    place = job.handler ~= "" and job.handler or job.family
    local alike = string.gsub(string.gsub(failure.error, "'[^']*'", "<text>"), "%d+", "<n>")
    signature = failure.kind .. "-" .. string.sub(redis.sha1hex(alike .. "\n" .. place), 1, 10)
  end
  redis.call("HSET", job_key(job.id), "state", "discarded", "error", failure.error, "signature", signature,
    "traceback", failure.traceback or "", "discarded_at", now_ms)
  redis.call("ZADD", dead_key, now_ms, job.id)
  redis.call("ZADD", dead_jobs_key(signature), now_ms, job.id)
  local known = redis.call("HGET", dead_groups_key, signature)
  local group = known and cjson.decode(known) or { first_at = now_ms }
  group.last_at, group.place, group.error = now_ms, place, shortened(failure.error, 300)
  redis.call("HSET", dead_groups_key, signature, cjson.encode(group))
  entry.reason, entry.signature = shortened(failure.error, 200), signature
  move_job(job, verb, "discarded", entry)
  if job.rules then let_go(job) end
end
