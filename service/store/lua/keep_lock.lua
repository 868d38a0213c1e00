-- Renew a lock, or give it up.
--
-- KEYS[1] lock
-- ARGV[1] token of whoever took it   ARGV[2] time to live, ms; 0 gives the lock up
-- Returns 1; 0 when the caller does not hold it any more.
--
-- Atomic because a lock that ran out between a look and a write is somebody else's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
