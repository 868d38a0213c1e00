-- Keep our connector instance, instead of what was kept of one.
--
-- KEYS[1] record of the instance
-- ARGV    its fields, each a name and a value
-- Returns how many fields there are.
--
-- Atomic because half a record is none. Off before on, as a full Redis lets a script grow once it
-- has begun to write without growing: replies wait for the instance, and are what empties it.
redis.call('DEL', KEYS[1])
return redis.call('HSET', KEYS[1], unpack(ARGV))
