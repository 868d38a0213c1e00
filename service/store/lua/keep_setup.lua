-- Keep a setup, or what was typed of one as a draft, as the next version of it.
--
-- KEYS[1] setup or draft
-- ARGV[1] version that it takes the place of, 0 for none
-- ARGV[2] values, sealed   ARGV[3] who typed them   ARGV[4] how long it is kept, ms; 0 for ever
-- Returns the new version; -1 when another one is there, and nothing is kept.
--
-- Atomic because two people who apply, or type, at once would each believe that theirs is kept. Off before
-- on, as a full Redis lets a script grow once it has begun to write without growing: new credentials
-- may be what empties it.
local now = redis.call('HGET', KEYS[1], 'version') or '0'
if ARGV[1] ~= now then
  return -1
end
local time = redis.call('TIME')
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local version = string.format('%.0f', tonumber(now) + 1)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', version, 'sealed', ARGV[2], 'who', ARGV[3], 'at', ms)
if ARGV[4] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return tonumber(version)
