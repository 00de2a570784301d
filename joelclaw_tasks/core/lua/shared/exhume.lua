-- exhume: out of the dead letter, whatever becomes of the job then.
local function exhume(id)
  local signature = redis.call("HGET", job_key(id), "signature")
  redis.call("ZREM", dead_key, id)
  if not signature then return end
  redis.call("ZREM", dead_jobs_key(signature), id)
  if redis.call("EXISTS", dead_jobs_key(signature)) == 0 then
    redis.call("HDEL", dead_groups_key, signature)
  end
end
