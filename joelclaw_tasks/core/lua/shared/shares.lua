-- shares: lanes of one handler take turns. A lane names its share first among its gates, with its weight: the
-- jobs of a turn. After a turn, a job of the share counts as admitted when the turn ended, if it is older; so
-- its lanes come after those of the other shares, however many jobs they hold (weighted round robin). A lane
-- that is ready or parked may have a rank from before that: it is corrected when the lane is looked at.
local function turn_of(lane, serves)
  local REMEMBERED_MS = 60000 -- who was not served for so long comes by age again
  local share, weight = parse_line(string.match(lane.gates, "^[^\n]+"))
  local served_at, left = string.match(redis.call("GET", turns_key(share)) or "0 0", "^(%d+) (%d+)$")
  served_at, left = tonumber(served_at), tonumber(left)
  if serves then
    left = (left > 0 and math.min(left, weight) or weight) - 1
    if left == 0 then served_at = now_ms end
    redis.call("SET", turns_key(share), served_at .. " " .. left, "PX", REMEMBERED_MS)
  end
  local head = head_of(lane.name)
  local slack_ms = head[1] and redis.call("HGET", job_key(head[1]), "slack_ms")
  return slack_ms and math.max(tonumber(head[2]), served_at + slack_ms)
end
