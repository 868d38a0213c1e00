-- Take a partition's lease if nobody holds it, or nobody can: it would last longer than any lease.
--
-- KEYS[1] lease   KEYS[2] epoch
-- ARGV[1] owner id   ARGV[2] time to live, ms   ARGV[3] longest that any lease can last, ms
-- Returns the lease token "owner:epoch"; "held" when somebody has it.
--
-- Atomic because the epoch must grow with every owner: the token of a former one never matches.
-- Redis keeps the moment at which a key runs out. Where its clock was put back that lies further
-- ahead than anybody has asked for, and a dead owner's lease would last as long as the jump. An
-- owner that lives writes it anew within a third of its time; one that loses it here is fenced.
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= tonumber(ARGV[3]) then
  return 'held'
end
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as a partition without an owner is never emptied.
redis.call('DEL', KEYS[1])
local token = ARGV[1] .. ':' .. redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
