-- who_holds: for verbs of whoever holds leases, ARGV[5]. Its first write needs no memory, as that of
-- shared/when_full.lua; and a user who may not touch leases is refused before anything has changed.
redis.call("ZREM", leases_key(ARGV[5]), "")
