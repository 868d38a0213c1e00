-- Settle one handled message: its replies into the outbox, itself out of the inbox.
--
-- KEYS[1] lease   KEYS[2] inbox   KEYS[3] inbox:tries   KEYS[4] inbox:later
-- KEYS[5] outbox   KEYS[6] outbox:tries   KEYS[7] outbox:marked
-- KEYS[8] optouts, when the message opted its sender in again
-- ARGV[1] lease token   ARGV[2] inbox entry id   ARGV[3] entry version
-- ARGV[4] "mark" to mark the first reply by Redis's clock, as its POST follows at once; else ""
-- ARGV[5] with KEYS[8], "<our number> <theirs>", else ""
-- ARGV[6..] the replies' data, in order
-- Returns the replies' outbox ids; "fenced" when the caller's lease is over; "gone" when the
-- message is settled already.
--
-- Atomic because this is the commit: half of it would be a reply without an end to its message
-- (answered twice) or the reverse (never answered). Off the list in the same step: handled again
-- after a crash, the message must still be found to come from somebody who is on it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'fenced'
end
if redis.call('XDEL', KEYS[2], ARGV[2]) == 0 then
  return 'gone'
end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
if KEYS[8] then
  redis.call('HDEL', KEYS[8], ARGV[5])
end
local ids = {}
for i = 6, #ARGV do
  ids[#ids + 1] = redis.call('XADD', KEYS[5], '*', 'v', ARGV[3], 'k', 'r', 'd', ARGV[i])
end
if ids[1] and ARGV[4] == 'mark' then
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[6], ids[1], 1)
  redis.call('HSET', KEYS[7], ids[1], string.format('%.0f', now_ms))
end
return ids
