-- Take a partition's lease if nobody holds it.
--
-- KEYS[1] lease   KEYS[2] epoch
-- ARGV[1] owner id   ARGV[2] time to live, ms
-- Returns the lease token "owner:epoch"; "held" when somebody has it.
--
-- Atomic because the epoch must grow with every owner: the token of a former one never matches.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'held'
end
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as a partition without an owner is never emptied.
redis.call('DEL', KEYS[1])
local token = ARGV[1] .. ':' .. redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
