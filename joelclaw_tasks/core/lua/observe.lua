-- observe: the queue at one moment, for the observer: what is counted, in force and shut, and the newest
-- acts. With an interval it begins a pass, unless one has begun within it: of two observers one goes on.
-- ARGV: now, interval_ms ("": only look), most gates, most acts.
-- Reply: {now, began (0|1), number of the newest pass, when it began or "", counts,
-- pauses, controls, acts, gates: name, limit or rate and places taken in turn}
--@include keys
--@include clock
local now_ms, most_gates, most_acts = clock_ms(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local known = redis.call("HMGET", observer_key, "pass", "begun_at")
local pass, begun_at = tonumber(known[1] or 0), tonumber(known[2] or nil)
local began = 0
-- A pass that began in the future began before the clock was moved back.
if ARGV[2] ~= "" and not (begun_at and now_ms >= begun_at and now_ms - begun_at < tonumber(ARGV[2])) then
  pass, begun_at, began = pass + 1, now_ms, 1
  redis.call("HSET", observer_key, "pass", pass, "begun_at", string.format("%.0f", now_ms))
end

local gates = {}
for _, values in ipairs({ limits_key, rates_key }) do
  local pairs_of = redis.call("HGETALL", values)
  for i = 1, math.min(#pairs_of, 2 * most_gates), 2 do
    gates[#gates + 1] = pairs_of[i]
    gates[#gates + 1] = pairs_of[i + 1]
    gates[#gates + 1] = redis.call("ZCARD", running_key(pairs_of[i]))
  end
end
local acts, last = {}, tonumber(redis.call("HGET", acts_key, "last") or 0)
for number = math.max(1, last - most_acts + 1), last do
  acts[#acts + 1] = redis.call("HGET", acts_key, "c" .. number) or nil
end
return {
  string.format("%.0f", now_ms), began, pass, begun_at and string.format("%.0f", begun_at) or "",
  redis.call("HGETALL", counts_key), redis.call("HVALS", pauses_key), redis.call("HVALS", controls_key), acts,
  gates,
}
