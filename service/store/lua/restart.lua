-- Give a lease another token, so that commits sent under the one before are refused from now on.
--
-- KEYS[1] lease
-- ARGV[1] lease token as it was acquired   ARGV[2] number of this restart, from 1
-- Returns the new token, "<token>.<number>"; "fenced" when the caller's lease is over, or when it
-- has restarted since.
--
-- A commit that timed out is not gone: Redis may come to it later, after its worker has read the
-- partition anew. Atomic because a lease that ran out between a look and a write is somebody else's.
local held = redis.call('GET', KEYS[1])
if not held or (held ~= ARGV[1] and held:sub(1, #ARGV[1] + 1) ~= ARGV[1] .. '.') then
  return 'fenced'
end
if tonumber(ARGV[2]) <= (tonumber(held:sub(#ARGV[1] + 2)) or 0) then
  return 'fenced'
end
local left = redis.call('PTTL', KEYS[1])
if left <= 0 then
  return 'fenced'
end
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as it is what empties it.
redis.call('PEXPIRE', KEYS[1], left)
local token = ARGV[1] .. '.' .. ARGV[2]
redis.call('SET', KEYS[1], token, 'PX', left)
return token
