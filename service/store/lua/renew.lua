-- Renew a lease, or give it up.
--
-- KEYS[1] lease
-- ARGV[1] lease token as it was acquired   ARGV[2] time to live, ms; 0 gives the lease up
-- Returns 1; "fenced" when the caller does not hold it any more.
--
-- Atomic because a lease that ran out between a look and a write is somebody else's.
local held = redis.call('GET', KEYS[1])
-- `restart` puts "." and a number behind it.
if not held or (held ~= ARGV[1] and held:sub(1, #ARGV[1] + 1) ~= ARGV[1] .. '.') then
  return 'fenced'
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
