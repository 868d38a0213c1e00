-- Write a refused sign-in into the audit trail, unless there were too many in this minute.
--
-- KEYS[1] trail   KEYS[2] refusals in this minute   KEYS[3] refusals:<digest of the network>
-- ARGV[1] most acts that are kept   ARGV[2] how long a minute is, ms
-- ARGV[3] most refusals in it, of all networks   ARGV[4] and on: fields, each a name and a value
-- Returns 1 when it was written, 0 when not.
--
-- Atomic because refusals at the same time would all be written, and a flood of them would push what
-- people did out of the trail.
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
local count = tonumber(redis.call('GET', KEYS[2]) or '0')
if count >= tonumber(ARGV[3]) then
  return 0
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1] - 1)
redis.call('SET', KEYS[3], '1', 'PX', ARGV[2])
if count == 0 then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
else
  redis.call('INCR', KEYS[2])
end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 4))
return 1
