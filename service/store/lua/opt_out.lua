-- Note that somebody opted out of one of our numbers, since the first time it is told, or in again.
--
-- KEYS[1] lease   KEYS[2] optouts
-- ARGV[1] lease token   ARGV[2] "<our number> <theirs>"   ARGV[3] ms since the epoch, "" for in again
-- Returns 1; "fenced" when the caller's lease is over.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[2], ARGV[2])
else
  -- A full Redis lets a script grow once it has begun to write.
  redis.call('HDEL', KEYS[2], '')
  redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
end
return 1
