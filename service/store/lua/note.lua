-- Write an act into the audit trail, and let go of the oldest beyond the bound.
--
-- KEYS[1] trail
-- ARGV[1] most acts that are kept   ARGV[2] and on: fields of the act, each a name and a value
-- Returns its id, whose first part is ms since the epoch by Redis's own clock.
--
-- Trimmed before it grows, as a full Redis lets a script grow once it has begun to write without
-- growing: dropping dead letters, which empties it, is noted.
-- Atomic because the trail would grow beyond its bound after a crash in between.
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1] - 1)
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
