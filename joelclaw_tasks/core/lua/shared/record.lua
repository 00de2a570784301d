-- record: the transitions stream. If it is not in the stream, it did not happen.
-- `entry` maps field to value; empty values are left out.
local function record(verb, now_ms, entry)
  local fields = { "verb", verb, "at", now_ms }
  for name, value in pairs(entry) do
    if value and value ~= "" then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  redis.call("XADD", transitions_key, "MAXLEN", "~", transitions_max, "*", unpack(fields))
end
