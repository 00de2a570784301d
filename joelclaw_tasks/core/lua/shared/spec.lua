-- spec: how one job arrives in ARGV: 17 values, in the order of `Job` in core/job.py.
local STRIDE = 17

local function bind_job(first)
  local id, queue, family, handler, lane, gates, priority, slack_ms, due_ms, keep_ms, retries, lease_tag,
    actor, trace, refusal, rules, payload = unpack(ARGV, first, first + STRIDE - 1)
  due_ms = tonumber(due_ms)
  if due_ms < 0 then due_ms = now_ms - due_ms end -- so long from now, by the one clock that counts
  return {
    id = id, queue = queue, family = family, handler = handler, lane = lane, gates = gates,
    priority = priority, slack_ms = slack_ms, keep_ms = keep_ms, retries = retries, trace = trace,
  }, {
    due_ms = due_ms, lease_tag = lease_tag, actor = actor, refusal = refusal, rules = rules,
    payload = payload,
  }
end
