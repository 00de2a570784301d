-- history: reads one page of the transitions stream; changes nothing. It looks through the page here, so that
-- a few entries of many need not travel, and answers JSON, which a client parses faster than many values.
-- ARGV: first id, last id, newest first (0|1), how many to look at, job ("": all; "\n": what is of no job),
-- verbs (none: all).
-- Reply: {last id looked at or "", found (JSON: [[id, [field, value, ...]], ...]), length of the stream}
--@include keys
local count, job = ARGV[4], ARGV[5]
local page
if ARGV[3] == "1" then
  page = redis.call("XREVRANGE", transitions_key, ARGV[2], ARGV[1], "COUNT", count)
else
  page = redis.call("XRANGE", transitions_key, ARGV[1], ARGV[2], "COUNT", count)
end
local last = page[#page] and page[#page][1] or ""

local verbs
for i = 6, #ARGV do
  verbs = verbs or {}
  verbs[ARGV[i]] = true
end

-- The verb comes first in every entry (see shared/record.lua), so most are told apart by it alone.
local function is_wanted(fields)
  local of = "\n"
  for i = 1, #fields, 2 do
    if fields[i] == "verb" and verbs and not verbs[fields[i + 1]] then return false end
    if fields[i] == "job" then
      of = fields[i + 1]
      if job ~= "" and of ~= job then return false end
    end
  end
  return job == "" or of == job
end

if job ~= "" or verbs then
  local found = {}
  for _, entry in ipairs(page) do
    if is_wanted(entry[2]) then found[#found + 1] = entry end
  end
  page = found
end
return { last, cjson.encode(page), redis.call("XLEN", transitions_key) }
