-- job: reads the hash of one job, counts jobs by state, and records every move.
-- Fields: state queue family handler lane gates priority slack_ms rank keep_ms payload trace
-- admitted_at available_at due_at claims kills retries; while executing: holder claimed_at;
-- with a successor: next (its spec, JSON) next_payload; when discarded: error signature
-- traceback discarded_at, and refused when it could never run; when finished: finished_at; when steered:
-- steered steered_by, and own_priority, "<slack_ms>|<priority>" of its message while another is set.
-- Of few jobs: rules, what they hold by core/rules.py (JSON); cancel_asked_at; and of a batch that
-- gathers: gathered, how many elements so far, and not_before, the time of its latest element; of one that
-- a debounce holds back: gathers.
--@include record
local function read_job(id)
  local state, queue, family, handler, lane, gates, priority, slack_ms, rank, keep_ms, claims, kills,
    retries, trace, admitted_at, available_at, claimed_at, holder, next_spec, refused,
    rules, gathered =
    unpack(redis.call("HMGET", job_key(id), "state", "queue", "family", "handler", "lane", "gates",
      "priority", "slack_ms", "rank", "keep_ms", "claims", "kills", "retries", "trace", "admitted_at",
      "available_at", "claimed_at", "holder", "next", "refused", "rules", "gathered"))
  return state and {
    id = id, state = state, queue = queue, family = family, handler = handler, lane = lane, gates = gates,
    priority = priority, slack_ms = slack_ms, rank = rank, keep_ms = keep_ms, claims = claims, kills = kills,
    retries = retries, trace = trace, admitted_at = admitted_at, available_at = available_at,
    claimed_at = claimed_at, holder = holder, next = next_spec, refused = refused, rules = rules,
    gathered = gathered,
  }
end

-- A delivery tag names the job, the life of it (an id may be used again) and the claim in that life.
local function tag_of(job) return job.id .. "#" .. job.admitted_at .. "#" .. job.claims end

-- What a job held by its rules, and gives back when it is over.
local function let_go(job)
  local rules = cjson.decode(job.rules)
  local singleton = rules.singleton and rule_key("singleton|" .. rules.singleton)
  if singleton and redis.call("GET", singleton) == job.id then redis.call("DEL", singleton) end
  for _, topic in ipairs(rules.topics or {}) do redis.call("SREM", topic_key(topic), job.id) end
  redis.call("DEL", elements_key(job.id))
end

-- Jobs by state, summed up here: a script that ends one job and starts the next of its family changes
-- fewer numbers than it makes moves. Every script that moves jobs ends with `write_counts`.
local tally = {}

local function count(job, state, change)
  local field = job.queue .. "\n" .. job.family .. "|" .. job.priority .. "|" .. state
  tally[field] = (tally[field] or 0) + change
end

local function write_counts()
  for field, change in pairs(tally) do
    if change ~= 0 then redis.call("HINCRBY", counts_key, field, change) end
  end
end

-- Counts and records a move whose other writes the caller has made. `entry` adds fields to the record.
local function move_job(job, verb, to, entry)
  if job.state then count(job, job.state, -1) end
  count(job, to, 1)
  entry.handler, entry.trace, entry.from = job.handler, job.trace, entry.from or job.state
  record(verb, entry,
    "job", job.id, "family", job.family, "queue", job.queue, "lane", job.lane, "to", to)
  job.state = to
end
