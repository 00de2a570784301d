-- claim: available -> executing. Hands the best jobs of all given queues to one holder, under leases.
-- KEYS after the prefix: lists of stock producers, each drained into the inbox of its queue.
-- ARGV: now, transitions_max, max_kills, lease_ms, holder, most, queue count, queues, queue of each list.
-- Reply: more ready (0|1), messages in the inboxes, ms until the next timer or "", then for each job: tag,
-- queue, payload, kills.
--@include keys
--@include who_holds
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include claim_jobs
local reply = claim_jobs({})
write_counts()
return reply
