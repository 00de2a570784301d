-- keys: where `lane_key(x)` and `counts_key` start; core/keys.py writes the rest of them into each script.
local prefix = KEYS[1]
