-- Give a lease up on behalf of an owner that has died, under whatever epoch it held it.
--
-- KEYS[1] lease
-- ARGV[1] owner id, without ":"
-- Returns 1; 0 when the lease is somebody else's, or nobody's.
--
-- Atomic because the lease may pass to another between a look and a deletion.
local held = redis.call('GET', KEYS[1])
if not held or held:sub(1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
