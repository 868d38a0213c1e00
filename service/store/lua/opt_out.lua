-- Note that somebody opted out of one of our numbers, since the first time it is told, or in again.
--
-- KEYS[1] lease   KEYS[2] optouts
-- ARGV[1] lease token   ARGV[2] "<our number> <theirs>"   ARGV[3] "out" or "in" (again)
-- Returns 1; "fenced" when the caller's lease is over.
--
-- The time is Redis's own, as the processes' clocks may differ.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if ARGV[3] == 'in' then
  redis.call('HDEL', KEYS[2], ARGV[2])
else
  -- A full Redis lets a script grow once it has begun to write.
  redis.call('HDEL', KEYS[2], '')
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSETNX', KEYS[2], ARGV[2], string.format('%.0f', now_ms))
end
return 1
