-- Move one entry that used up its attempts to the dead letters.
--
-- KEYS[1] lease   KEYS[2] dead   KEYS[3] inbox or outbox   KEYS[4] its :tries   KEYS[5] its :later
-- KEYS[6] outbox:marked, for a reply only: an inbox entry may have the id of an outbox entry
-- KEYS[7] unlisted:<words>, for a reply in doubt only
-- ARGV[1] lease token   ARGV[2] entry id   ARGV[3] error text
-- ARGV[4] route that answered or would have, or ""
-- ARGV[5] with KEYS[7], seconds to remember the POST in doubt
-- Returns the dead letter's id; "fenced" when the caller's lease is over; "gone" when the entry
-- is not there any more.
--
-- Atomic because between the two streams the entry would be lost, or there twice.
-- The time is Redis's own, as the processes' clocks may differ.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
local found = redis.call('XRANGE', KEYS[3], ARGV[2], ARGV[2])
if not found[1] then
  return 'gone'
end
local tries = redis.call('HGET', KEYS[4], ARGV[2]) or '0'
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now_ms)
local fields = found[1][2]
for _, value in ipairs({'entry', ARGV[2], 'error', ARGV[3], 'tries', tries, 'at', at, 'route', ARGV[4]}) do
  fields[#fields + 1] = value
end
-- XDEL first: a full Redis lets a script grow once it has begun to write without growing.
redis.call('XDEL', KEYS[3], ARGV[2])
local id = redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('HDEL', KEYS[4], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
local mark = KEYS[7] and redis.call('HGET', KEYS[6], ARGV[2])
if mark then
  redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', mark - ARGV[5] * 1000)
  redis.call('ZADD', KEYS[7], mark, ARGV[2] .. ' ' .. mark .. ' ')
  redis.call('EXPIRE', KEYS[7], ARGV[5])
end
if KEYS[6] then
  redis.call('HDEL', KEYS[6], ARGV[2])
end
return id
