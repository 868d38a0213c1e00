-- Take back one attempt that was cut short by us: a hand-over or a stop, no fault of the message.
--
-- KEYS[1] lease   KEYS[2] inbox:tries
-- ARGV[1] lease token   ARGV[2] inbox entry id
-- Returns 1; "fenced" when the caller's lease is over.
--
-- Atomic because only the owner may count.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0') > 0 then
  -- A full Redis lets a script grow once it has begun to write without growing, and HINCRBY counts
  -- as growing: a message handed over there would have an attempt less.
  redis.call('HDEL', KEYS[2], '')
  redis.call('HINCRBY', KEYS[2], ARGV[2], -1)
end
return 1
