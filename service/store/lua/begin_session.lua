-- Begin a session of the console, if what the sign-in rests on is still there.
--
-- KEYS[1] session:<digest of its cookie>   KEYS[2] sessions
-- KEYS[3] hash that holds what it rests on: token:<digest> or passwords
-- KEYS[4], KEYS[5] after a password: tries of the network, tries of all
-- ARGV[1] field of KEYS[3]   ARGV[2] what has to be in it   ARGV[3] longest time to live, ms
-- ARGV[4] longest time unseen, ms   ARGV[5] most sessions there are; the oldest one ends
-- ARGV[6], ARGV[7] after how long one failure is forgotten, ms: of KEYS[4], of KEYS[5]
-- ARGV[8] and on: fields of the session, each a name and a value
-- Returns ms since the epoch at which it began; 0 when what it rests on is gone.
--
-- Atomic because a token signs in once, and a password that was changed while it was looked at not at
-- all. Of two that use a token at the same time, the second finds none. A sign-in that succeeded
-- was counted as failed and is so no longer; failures before it stay, or whoever has one password
-- could try for the other without end. The clock is Redis's own, as the processes' may differ.
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if KEYS[4] then
  for i = 4, 5 do
    local found = string.match(redis.call('GET', KEYS[i]) or '', '^(%d+) ')
    if found then
      local until_ms = found - ARGV[i + 2]
      redis.call('DEL', KEYS[i])
      if until_ms > now then
        local value = string.format('%.0f %.0f', until_ms, now)
        redis.call('SET', KEYS[i], value, 'PX', string.format('%.0f', until_ms - now))
      end
    end
  end
else
  redis.call('DEL', KEYS[3])
end
-- Those that are over anyhow, and the oldest where there are too many: what is not in here ends.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[5]))
redis.call('ZADD', KEYS[2], now + ARGV[3], string.match(KEYS[1], '[^:]+$'))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local at = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'began', at, 'seen', at, unpack(ARGV, 8))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return now
