-- claim_jobs: what `claim` does; ARGV as in claim.lua. It appends the parts of its answer to `reply`.
--@include timers
local max_kills, lease_ms, holder, most = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local last_queue = 7 + tonumber(ARGV[7])
local PARKS_PER_CALL = 200

local function fill_inboxes()
  local looked_at = { unpack(KEYS, 2) }
  for i = last_queue + 1, last_queue + #KEYS - 1 do looked_at[#looked_at + 1] = inbox_key(ARGV[i]) end
  if redis.call("EXISTS", unpack(looked_at)) == 0 then return 0 end
  local waiting = 0
  for i = 2, #KEYS do
    local inbox = inbox_key(ARGV[last_queue + i - 1])
    for _ = 1, 100 do
      if not redis.call("RPOPLPUSH", KEYS[i], inbox) then break end
    end
    waiting = waiting + redis.call("LLEN", inbox)
  end
  return waiting
end

-- The ready lane whose first job has the best rank, and whether it is the only one.
local function best_lane()
  local name, rank, queue
  local ready = 0
  for i = 8, last_queue do
    local heads = redis.call("ZRANGE", ready_key(ARGV[i]), 0, 1, "WITHSCORES")
    ready = ready + #heads / 2
    if heads[1] and (not rank or tonumber(heads[2]) < tonumber(rank)) then
      name, rank, queue = heads[1], heads[2], ARGV[i]
    end
  end
  return name, rank, queue, ready == 1
end

--@include start_job
local function claim_jobs(reply)
  -- First of all our own lease: a machine that slept must not expire what it still runs itself.
  local renewed = redis.call("ZADD", timers_key, "XX", "CH", now_ms + lease_ms, "lease|" .. holder) == 1
  local due_ms = fire_timers(now_ms, max_kills, lease_ms)
  local waiting = #KEYS > 1 and fill_inboxes() or 0

  local first = #reply + 1
  reply[first], reply[first + 1] = 0, waiting
  reply[first + 2] = "" -- for when the next timer is due
  local parks, claimed, is_all_taken = 0, 0, false
  while claimed < most and parks < PARKS_PER_CALL and not is_all_taken do
    local name, rank, queue, is_only = best_lane()
    if not name then
      is_all_taken = true
      break
    end
    local lane, turn, turn_rank = read_lane(name), nil, nil
    if lane then
      lane.rank = rank
      if string.sub(lane.gates, 1, 6) == "share:" then
--@include shares
        turn, turn_rank = turn_of, turn_of(lane)
      end
    end
    local its_turn = not turn_rank or turn_rank <= tonumber(rank)
    -- Most lanes have no gates, and most of the time nothing is paused.
    local may_be_shut = lane and its_turn and (lane.gates ~= "" or redis.call("HLEN", pauses_key) > 0)
    local line = may_be_shut and first_shut_gate(lane)
    if not lane then -- its meta was deleted by hand; the next job admitted to it brings it back
      redis.call("ZREM", ready_key(queue), name)
    elseif not its_turn then
      redis.call("ZADD", ready_key(queue), turn_rank, name)
      pass_on(lane.gates) -- what it was brought back for may be for another
      parks = parks + 1
    elseif line then
      park(lane, line, now_ms)
      parks = parks + 1
    else
      local tag, payload, kills, has_more = start(lane)
      if tag then
        local last = #reply
        reply[last + 1], reply[last + 2], reply[last + 3], reply[last + 4] = tag, lane.queue, payload, kills
        claimed = claimed + 1
        is_all_taken = is_only and not has_more and lane.gates == "" -- the end of a gated one frees others
        turn_rank = turn and turn(lane, true)
        if turn_rank then redis.call("ZADD", ready_key(queue), "XX", turn_rank, name) end
      else
        parks = parks + 1
      end
    end
  end

  if claimed > 0 and not renewed then
    redis.call("ZADD", timers_key, now_ms + lease_ms, "lease|" .. holder)
  end

  if parks > 0 then -- a lane at a rate has set a timer
    local next_due = redis.call("ZRANGE", timers_key, 0, 0, "WITHSCORES")[2]
    due_ms = next_due and math.max(0, tonumber(next_due) - now_ms)
  end
  if due_ms then
    -- Lua itself would write a time after the year 5138 as 2.5e+14.
    reply[first + 2] = string.format("%.0f", math.ceil(due_ms))
    -- Who has enough to do does not look again in time: somebody idle is to know of this timer.
    if claimed == most and due_ms < 1000 then wake(ARGV[8]) end
  end

  -- The baton: whoever claims leaves a token behind while more is ready, so workers wake one another. One on
  -- each queue, for there may be workers that serve only some of them.
  for i = 8, is_all_taken and 0 or last_queue do
    if redis.call("EXISTS", ready_key(ARGV[i])) == 1 then
      reply[first] = 1
      wake(ARGV[i])
    end
  end
  return reply
end
