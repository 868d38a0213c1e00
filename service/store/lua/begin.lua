-- Begin an attempt at handling one message: count it before the handler runs.
--
-- KEYS[1] lease   KEYS[2] inbox   KEYS[3] inbox:tries
-- KEYS[4] optouts, where it matters whether the sender is opted out
-- ARGV[1] lease token   ARGV[2] inbox entry id   ARGV[3] with KEYS[4], "<our number> <theirs>"
-- Returns the attempt's number, from 1, negative when the sender is opted out; "fenced" when the
-- caller's lease is over; "gone" when the message is settled already.
--
-- Atomic because only the owner may count, and it must be counted before user code runs: a message
-- that kills the process is then found with its attempts used up.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if not redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1] then
  return 'gone'
end
local out = KEYS[4] and redis.call('HEXISTS', KEYS[4], ARGV[3]) == 1
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as it is what empties it.
redis.call('HDEL', KEYS[3], '')
local attempt = redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
return out and -attempt or attempt
