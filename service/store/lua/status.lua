-- Take one report on a reply of ours, once.
--
-- KEYS[1] status:<MessageSid>:<MessageStatus>
-- ARGV[1] de-duplication window, seconds
-- Returns 1 when it is new, 0 when it was taken before.
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then
  return 1
end
return 0
