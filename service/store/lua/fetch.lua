-- Read one inbox entry again.
--
-- KEYS[1] inbox
-- ARGV[1] entry id
-- Returns what XRANGE does: nothing, or the entry with its fields.
--
-- A script so that the reads of many conversations leave together, in one round trip.
return redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
