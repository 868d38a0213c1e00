-- Put one entry off after a failed attempt that certainly had no effect outside.
--
-- KEYS[1] lease   KEYS[2] inbox or outbox   KEYS[3] its :later
-- KEYS[4] outbox:marked, for a reply only: an inbox entry may have the id of an outbox entry
-- ARGV[1] lease token   ARGV[2] entry id   ARGV[3] ms to wait   ARGV[4] error text
-- ARGV[5] "keep" to leave a reply's mark, as its last POST is still in doubt; else ""
-- Returns 1; "fenced" when the caller's lease is over; "gone" when the entry is not there any more.
--
-- Atomic because a mark must go with the knowledge that the POST did nothing, or not at all.
-- Kept is "next_ms error text"; the time is Redis's own, as the processes' clocks may differ.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if not redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1] then
  return 'gone'
end
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as it is what empties it.
redis.call('HDEL', KEYS[3], ARGV[2])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local next_ms = string.format('%.0f', now_ms + ARGV[3])
redis.call('HSET', KEYS[3], ARGV[2], next_ms .. ' ' .. ARGV[4])
if KEYS[4] and ARGV[5] ~= 'keep' then
  redis.call('HDEL', KEYS[4], ARGV[2])
end
return 1
