-- Accept one message: remember its MessageSid and append it to its partition's inbox.
--
-- KEYS[1] inbox stream   KEYS[2] seen:<MessageSid>
-- ARGV[1] de-duplication window, seconds   ARGV[2] most entries an inbox may hold
-- ARGV[3] entry version   ARGV[4] entry data
-- Returns the new entry id; "dup" when the sid was accepted before; "full" at the bound.
--
-- Atomic because a crash between the two writes would either lose the message (remembered, not
-- appended) or accept Twilio's retry of it a second time (appended, not remembered).
if redis.call('EXISTS', KEYS[2]) == 1 then
  -- Written anew with the time it has left: a confirmation (WAIT, WAITAOF) covers what its own
  -- connection wrote, and the first answer may have been lost before it was confirmed.
  local left = redis.call('PTTL', KEYS[2])
  if left > 0 then
    redis.call('PEXPIRE', KEYS[2], left)
  end
  return 'dup'
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then
  return 'full'
end
-- XADD first: if memory is short it is refused before anything has changed.
local id = redis.call('XADD', KEYS[1], '*', 'v', ARGV[3], 'k', 'm', 'd', ARGV[4])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
return id
