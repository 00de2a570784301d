-- renew: executing -> executing. One call keeps all leases of a holder, and fires what is due.
-- ARGV: now, transitions_max, max_kills, lease_ms, holder, record of the holder (JSON).
-- Reply: how many jobs the holder still holds.
--@include keys
--@include who_holds
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
local max_kills, lease_ms, holder, holder_record = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
--@include timers
redis.call("ZADD", timers_key, now_ms + lease_ms, "lease|" .. holder)
redis.call("HSET", holders_key, holder, holder_record)
fire_timers(now_ms, max_kills, lease_ms)
write_counts()
return redis.call("ZCARD", leases_key(holder))
