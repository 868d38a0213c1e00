-- Note that our instance was looked at, and what was done to it.
--
-- KEYS[1] look
-- ARGV[1] what was done, for people; "" for nothing, which leaves what was done before
-- Returns ms since the epoch by Redis's own clock, as the processes' may differ.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'looked', now)
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'did', ARGV[1], 'did_at', now)
end
return tonumber(now)
