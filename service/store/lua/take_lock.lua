-- Take a lock, if nobody has it.
--
-- KEYS[1] lock
-- ARGV[1] token of whoever takes it   ARGV[2] time to live, ms
-- ARGV[3] longest that anybody takes it for, ms, with some slack
-- Returns 1 when it was taken, 0 when not.
--
-- A lock that would last longer than that dates from before Redis's clock was put back. It is taken
-- for free, as it would last as long as the jump. A holder that lives has renewed it since, or
-- learns that it was lost. The deletion of nothing comes first, as a full Redis lets a script grow
-- once it has begun to write without growing: no reply leaves it before the instance was looked at
-- under this lock.
--
-- Atomic because another may take it between a look and a write.
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= tonumber(ARGV[3]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
