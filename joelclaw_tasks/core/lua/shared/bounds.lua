-- bounds: what `limit` and `rate` do with gates and their values. What code declares is the base: the actor
-- "registry", or "registry:<app>". It names all that it sets: what it does not name any more goes. What a
-- person or the observer sets is a control over that, until it is undone or ends.
-- ARGV: now, transitions_max, actor, reason, ttl_ms, then gate and value in pairs ("" takes it away).
-- Reply: {word, gates whose value changed, control of the last} | {HELD_BY_PERSON, 0, control}
--@include controls
local actor, reason, ttl_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
local is_code = string.match(actor .. ":", "^registry:") ~= nil

local function set_base(verb, gate, value, known, control)
  if control then
    control.base = value
    redis.call("HSET", controls_key, name_of(control), cjson.encode(control))
    return 0
  end
  if known == value then return 0 end
  record(verb, { gate = gate, actor = actor, reason = reason, [verb] = value, was = known })
  APPLY[verb](gate, value, now_ms)
  return 1
end

-- The pairs of the call and, for code, what it has set before and does not name.
local function pairs_of_call(verb)
  local named, set_before = {}, {}
  for i = 6, #ARGV, 2 do named[#named + 1] = { ARGV[i], ARGV[i + 1] } end
  if not is_code then return named end
  local known = registered_key(verb .. "|" .. actor)
  for _, gate in ipairs(redis.call("SMEMBERS", known)) do set_before[gate] = true end
  redis.call("DEL", known)
  for _, pair in ipairs(named) do
    redis.call("SADD", known, pair[1])
    set_before[pair[1]] = nil
  end
  for gate in pairs(set_before) do named[#named + 1] = { gate, "" } end
  return named
end

local function set_bounds(verb, values, word)
  for i = 6, #ARGV, 2 do
    local control = control_of(verb, ARGV[i])
    if is_refused(verb, control, actor, reason) then
      return { "HELD_BY_PERSON", 0, cjson.encode(control) }
    end
  end
  local changed, act = 0, nil
  for _, pair in ipairs(pairs_of_call(verb)) do
    local gate, value = pair[1], pair[2]
    local known, control = redis.call("HGET", values, gate) or "", control_of(verb, gate)
    if is_code then
      changed = changed + set_base(verb, gate, value, known, control)
    elseif known ~= value or ttl_ms > 0 or (control and control["until"]) then
      act = new_act(verb, gate, ttl_ms, actor, reason, now_ms, { gate = gate, [verb] = value, was = known })
      set_control(act, value, known, now_ms)
      changed = changed + 1
    end
  end
  return { word, changed, act and cjson.encode(act) or "" }
end
