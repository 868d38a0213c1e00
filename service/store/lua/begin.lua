-- Begin an attempt at handling one message: count it before the handler runs.
--
-- KEYS[1] lease   KEYS[2] inbox   KEYS[3] inbox:tries
-- ARGV[1] lease token   ARGV[2] inbox entry id
-- Returns the attempt's number, from 1; "fenced" when the caller's lease is over; "gone" when the
-- message is settled already.
--
-- Atomic because only the owner may count, and it must be counted before user code runs: a message
-- that kills the process is then found with its attempts used up.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if not redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1] then
  return 'gone'
end
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as it is what empties it.
redis.call('HDEL', KEYS[3], '')
return redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
