-- Say that a worker lives, and learn who else does.
--
-- KEYS[1] register of the workers: worker id -> ms until which it counts as alive
-- ARGV[1] worker id   ARGV[2] how long it counts as alive from now on, ms
-- ARGV[3] longest that anybody asks to count as alive, ms
-- Returns the ids of the living workers, this one among them.
--
-- Atomic because whoever is counted must be counted by all at the same moment: shares are worked
-- out from it. The clock is Redis's own, as the workers' may differ.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- The silent go first, also because a full Redis lets a script grow once it has begun to write
-- without growing: workers must find their shares there, as they are what empties it.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
-- Nor does who is registered for longer than anybody asks: Redis's clock was put back since. One
-- that lives registers anew in a moment.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now_ms + ARGV[3]), '+inf')
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[2]), ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
