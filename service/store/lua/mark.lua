-- Mark one reply as being POSTed: from here until `sent` or `reschedule` it is in doubt.
--
-- KEYS[1] lease   KEYS[2] outbox   KEYS[3] outbox:tries   KEYS[4] outbox:marked
-- KEYS[5] unlisted:<words>, where the last POST stays in doubt; left out else
-- ARGV[1] lease token   ARGV[2] outbox entry id   ARGV[3] with KEYS[5], seconds to remember that POST
-- Returns the POST's number, from 1; "fenced" when the caller's lease is over; "gone" when the
-- reply is not in the outbox any more, and must not be POSTed.
--
-- Atomic because a stalled former owner must not mark, and so POST, what its successor has taken.
-- The time is Redis's own, as the processes' clocks may differ.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if not redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1] then
  return 'gone'
end
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as it is what empties it.
redis.call('HDEL', KEYS[4], '')
local before = KEYS[5] and redis.call('HGET', KEYS[4], ARGV[2])
if before then
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', before - ARGV[3] * 1000)
  redis.call('ZADD', KEYS[5], before, ARGV[2] .. ' ' .. before .. ' ')
  redis.call('EXPIRE', KEYS[5], ARGV[3])
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[4], ARGV[2], string.format('%.0f', now_ms))
return redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
