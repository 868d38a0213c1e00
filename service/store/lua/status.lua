-- Take one report on a reply of ours, once; one that says the person opted out puts them on the list.
--
-- KEYS[1] status:<MessageSid>:<MessageStatus>
-- KEYS[2] optouts   KEYS[3] optout:<MessageSid>: both for a report of an opt-out only
-- ARGV[1] de-duplication window, seconds   ARGV[2] with KEYS[2], "<our number> <theirs>"
-- Returns 1 when it is new, 0 when it was taken before.
--
-- Atomic because a crash between the writes would leave a report that is remembered and an opt-out
-- that is not. A reply's opt-out counts once whatever other statuses report it: the next may come
-- after they have opted in again. The clock is Redis's own, as the processes' may differ.
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then
  -- Written anew with the time it has left, for confirmations, as in `accept`.
  local left = redis.call('PTTL', KEYS[1])
  if left > 0 then
    redis.call('PEXPIRE', KEYS[1], left)
  end
  return 0
end
if KEYS[2] and redis.call('SET', KEYS[3], '1', 'NX', 'EX', ARGV[1]) then
  local time = redis.call('TIME')
  local at_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSETNX', KEYS[2], ARGV[2], at_ms)
end
return 1
