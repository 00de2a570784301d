-- retry: a running job runs again when it ends, as the job given here (a retry, or what replaces it):
-- executing -> retryable | available. Until then nothing else changes, so its places stay taken.
-- ARGV: now, transitions_max, one job as in shared/spec.lua, then why ("": nobody said).
-- Reply: SUCCEEDED | LEASE_LOST
--@include keys
--@include when_full
--@include clock
local now_ms, transitions_max = clock_ms(ARGV[1]), ARGV[2]
--@include leave
--@include spec
--@include successor
local successor, call = bind_job(3)
if not leased_job(call.lease_tag) then return "LEASE_LOST" end
announce_successor(successor, call.due_ms, call.payload, ARGV[3 + STRIDE])
return "SUCCEEDED"
