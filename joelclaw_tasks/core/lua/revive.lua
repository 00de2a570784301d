-- revive: discarded -> available, as if it were new: its kills are forgiven, its retries start over and what
-- it once expired at does not count. What was refused stays so.
-- ARGV: now, transitions_max, actor, reason, ids. Reply, for each id: REVIVED | MISSING | WRONG_STATE
--@include keys
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local actor, reason = ARGV[3], ARGV[4]
--@include leave
--@include exhume

-- A worker reads both from the message. In JSON, text that looks like one of them has its quotes escaped.
local function as_new(payload)
  payload = string.gsub(payload, '("retries"%s*:%s*)%d+', "%10", 1)
  return (string.gsub(payload, '("expires"%s*:%s*)"[^"]*"', "%1null", 1))
end

local function revive(id)
  local job, key = read_job(id), job_key(id)
  if not job then return "MISSING" end
  if job.state ~= "discarded" or job.refused then return "WRONG_STATE" end
  exhume(id)
  redis.call("HDEL", key, "error", "traceback", "signature", "discarded_at")
  redis.call("HSET", key, "kills", 0, "retries", 0, "payload", as_new(redis.call("HGET", key, "payload")))
  if job.rules then
    local rules = cjson.decode(job.rules)
    rules.expires_at = nil
    redis.call("HSET", key, "rules", cjson.encode(rules))
    if rules.singleton then redis.call("SET", rule_key("singleton|" .. rules.singleton), id, "NX") end
    for _, topic in ipairs(rules.topics or {}) do redis.call("SADD", topic_key(topic), id) end
  end
  set_available(job, now_ms + tonumber(job.slack_ms), now_ms)
  move_job(job, "revive", "available", { actor = actor, reason = reason })
  return "REVIVED"
end

local words = {}
for i = 5, #ARGV do words[#words + 1] = revive(ARGV[i]) end
write_counts()
return words
