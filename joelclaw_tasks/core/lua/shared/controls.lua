-- controls: what people and the observer have set: who, why, until when, and what it was before.
-- A record has id, verb, target, actor, reason, at, until (when it ends by itself), value (what is in force),
-- base (what was before any control; "" is nothing) and previous: the control that this one replaced.
-- Undo goes back one step, and from there to the base; so does the end of its time, but a pause then opens.
--@include reopen
local ACTS_KEPT = 1000
local PROGRAMS = { observer = true, registry = true, expiry = true }

local function is_person(by) return by and by ~= "" and not PROGRAMS[by] end

-- What a person has done, the observer leaves alone.
local function is_held(actor, by) return actor == "observer" and is_person(by) end

local function name_of(act) return act.verb .. "|" .. act.target end

local function control_of(verb, target)
  local known = redis.call("HGET", controls_key, verb .. "|" .. target)
  return known and cjson.decode(known) or nil
end

local function keep_act(act) redis.call("HSET", acts_key, act.id, cjson.encode(act)) end

-- Whether a control stands against what the observer wants; then that is in the stream too.
local function is_refused(verb, control, actor, reason)
  if not control or not is_held(actor, control.actor) then return false end
  record("refuse", {
    of = verb, target = control.target, control = control.id, actor = actor, reason = reason,
  })
  return true
end

-- A new act, in the stream before its effect; `entry` says there what it is about.
local function new_act(verb, target, ttl_ms, actor, reason, now_ms, entry)
  local number = redis.call("HINCRBY", acts_key, "last", 1)
  redis.call("HDEL", acts_key, "c" .. (number - ACTS_KEPT))
  local act = {
    id = "c" .. number, verb = verb, target = target, actor = actor, reason = reason, at = now_ms,
    ["until"] = ttl_ms > 0 and now_ms + ttl_ms or nil,
  }
  entry.control, entry.actor, entry.reason = act.id, actor, reason
  entry.expires_at = act["until"]
  record(verb, entry)
  keep_act(act)
  return act
end

local function set_value(values, gate, value, now_ms)
  if value ~= "" then
    redis.call("HSET", values, gate, value)
  else
    redis.call("HDEL", values, gate)
  end
  unpark_all(gate, now_ms)
  unpark_keyed(gate, "", now_ms)
end

local APPLY = {
  pause = function(gate, value, now_ms)
    redis.call("ZREM", timers_key, "unpark|" .. gate)
    if value ~= "" then
      redis.call("HSET", pauses_key, gate, value)
    else
      redis.call("HDEL", pauses_key, gate)
      unpark_all(gate, now_ms)
    end
  end,
  limit = function(gate, value, now_ms) set_value(limits_key, gate, value, now_ms) end,
  rate = function(gate, value, now_ms) set_value(rates_key, gate, value, now_ms) end,
  priority = function(target, value)
    local family = string.match(target, "^family/(.*)$")
    if value ~= "" then
      redis.call("HSET", priorities_key, family, value)
    else
      redis.call("HDEL", priorities_key, family)
    end
  end,
  drain = function(gate, value)
    if value ~= "" then
      redis.call("HSET", drains_key, gate, value)
    else
      redis.call("HDEL", drains_key, gate)
    end
  end,
  shed = function() end, -- its jobs come back by themselves (see revert.lua)
}

local function enforce(act, now_ms)
  redis.call("HSET", controls_key, name_of(act), cjson.encode(act))
  if act["until"] then
    redis.call("ZADD", timers_key, act["until"], "control|" .. name_of(act))
  else
    redis.call("ZREM", timers_key, "control|" .. name_of(act))
  end
  APPLY[act.verb](act.target, act.value, now_ms)
end

-- Puts an act in force, in place of what is there. `base` is what there is without any control.
local function set_control(act, value, base, now_ms)
  local before = control_of(act.verb, act.target)
  act.value, act.base = value, base
  if before then
    act.base, act.previous = before.base, before
    before.base, before.previous = nil, nil
  end
  keep_act(act)
  enforce(act, now_ms)
end

-- Back to the control that this one replaced, while that lasts, and else to the base.
local function end_control(act, now_ms)
  local before = act.previous
  if before and (before["until"] or math.huge) > now_ms then
    before.base = act.base
    enforce(before, now_ms)
  else
    redis.call("HDEL", controls_key, name_of(act))
    redis.call("ZREM", timers_key, "control|" .. name_of(act))
    APPLY[act.verb](act.target, act.base, now_ms)
  end
end
