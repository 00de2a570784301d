-- when_full: for verbs that must work when Redis is full, so that workers make room and people can steer.
-- At its memory limit Redis refuses a script whose first write may need memory, and lets one go on whose
-- first write needs none. This one removes nothing.
redis.call("ZREM", timers_key, "")
