-- record: the transitions stream. If it is not in the stream, it did not happen.
-- Lua formats a number for a command slowly, and several commands want this one.
local now = string.format("%.0f", now_ms)

-- `entry` maps field to value, empty values are left out; more fields follow in pairs.
local function record(verb, entry, ...)
  local fields = { "MAXLEN", "~", transitions_max, "*", "verb", verb, "at", now, ... }
  local size = #fields
  for name, value in pairs(entry) do
    if value and value ~= "" then
      fields[size + 1], fields[size + 2] = name, value
      size = size + 2
    end
  end
  redis.call("XADD", transitions_key, unpack(fields, 1, size))
end
