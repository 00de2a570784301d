-- enter: how a job comes to wait: in its lane or for a clock.
--@include job
--@include lanes
--@gives set_available set_waiting
local function set_available(job, rank, now_ms, is_new)
  job.rank = rank
  if job.gathered then -- a batch: from now on it gathers no more
    local elements = redis.call("HVALS", elements_key(job.id))
    table.sort(elements) -- each begins with its number
    for i, element in ipairs(elements) do elements[i] = string.sub(element, 11) end
    redis.call("HSET", job_key(job.id), "payload", '{"jc_batch":[' .. table.concat(elements, ",") .. "]}")
    redis.call("HDEL", job_key(job.id), "gathered", "not_before")
    redis.call("DEL", elements_key(job.id))
  end
  redis.call("HSET", job_key(job.id), "state", "available", "rank", rank, "available_at", now_ms)
  enqueue(job, is_new)
end

-- Waits for a clock. The rank is set when the time comes.
local function set_waiting(job, state, due_ms, now_ms)
  redis.call("HSET", job_key(job.id), "state", state, "due_at", due_ms)
  redis.call("ZADD", timers_key, due_ms, "job|" .. job.id)
  redis.call("SADD", queues_key, job.queue)
  -- An idle worker looks once a second; one that sleeps until a later timer must hear of an earlier one.
  if due_ms < now_ms + 2000 then wake(job.queue) end
end
