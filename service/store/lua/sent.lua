-- Record one reply as sent: out of the outbox, its connector sid remembered.
--
-- KEYS[1] lease   KEYS[2] outbox   KEYS[3] outbox:tries   KEYS[4] outbox:later
-- KEYS[5] outbox:marked   KEYS[6] sent:<connector sid>
-- KEYS[7] unlisted:<words>, for a connector sid that the message log may not show; left out else
-- ARGV[1] lease token   ARGV[2] outbox entry id   ARGV[3] "<MessageSid>/<index>" of the reply
-- ARGV[4] seconds to remember the connector sid   ARGV[5] connector sid, with KEYS[7]
-- Returns 1; "fenced" when the caller's lease is over; "gone" when it was recorded before.
--
-- Atomic because a reply without its mark but still in the outbox would be sent again.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if redis.call('XDEL', KEYS[2], ARGV[2]) == 0 then
  return 'gone'
end
if KEYS[7] then
  -- Without a mark, by when it was put into the outbox: the POST came after that.
  local mark = redis.call('HGET', KEYS[5], ARGV[2]) or ARGV[2]:match('^%d+')
  redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', mark - ARGV[4] * 1000)
  redis.call('ZADD', KEYS[7], mark, ARGV[2] .. ' ' .. mark .. ' ' .. ARGV[5])
  redis.call('EXPIRE', KEYS[7], ARGV[4])
end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
redis.call('SET', KEYS[6], ARGV[3], 'EX', ARGV[4])
return 1
