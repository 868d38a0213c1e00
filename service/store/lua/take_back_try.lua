-- Take back that a try was counted as failed: it was the right password, of somebody signed in.
--
-- KEYS    what failures are counted by: their network, and all together
-- ARGV    for each key, after how long one failure is forgotten, ms
-- Returns 1.
--
-- `begin_session` does the same where a session begins. Failures before it stay, or whoever has one
-- password could try for the other without end. Atomic because another try may be counted meanwhile.
-- The clock is Redis's own, as the processes' may differ.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS do
  local found = string.match(redis.call('GET', KEYS[i]) or '', '^(%d+) ')
  if found then
    local until_ms = found - ARGV[i]
    redis.call('DEL', KEYS[i])
    if until_ms > now then
      local value = string.format('%.0f %.0f', until_ms, now)
      redis.call('SET', KEYS[i], value, 'PX', string.format('%.0f', until_ms - now))
    end
  end
end
return 1
