-- Look up a session of the console, and note that it was seen.
--
-- KEYS[1] session:<digest of its cookie>   KEYS[2] sessions
-- ARGV[1] longest time to live, ms   ARGV[2] longest time unseen, ms
-- ARGV[3] how far ahead a time may lie, ms   ARGV[4] "1" to note that it was seen
-- Returns its fields, each a name and a value; nothing when it was ended, is over or was unseen for
-- too long.
--
-- A time further ahead dates from before Redis's clock was put back; such a session would live for as
-- long as the jump, so it is over. Atomic because one that is ended between a look and a write would
-- be there again. The clock is Redis's own, as the processes' may differ.
local digest = string.match(KEYS[1], '[^:]+$')
if not redis.call('ZSCORE', KEYS[2], digest) then
  return {}
end
local found = redis.call('HMGET', KEYS[1], 'began', 'seen')
local began, seen = tonumber(found[1] or ''), tonumber(found[2] or '')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = now + ARGV[3]
if
  not began
  or not seen
  or now >= began + ARGV[1]
  or now >= seen + ARGV[2]
  or math.max(began, seen) > latest
then
  redis.call('ZREM', KEYS[2], digest)
  redis.call('DEL', KEYS[1])
  return {}
end
if ARGV[4] == '1' then
  -- First what needs no memory, as a full Redis lets a script grow once it has begun to write.
  redis.call('PEXPIRE', KEYS[1], math.min(began + ARGV[1] - now, tonumber(ARGV[2])))
  redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', now))
end
return redis.call('HGETALL', KEYS[1])
