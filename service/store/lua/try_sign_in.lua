-- Ask whether a sign-in may be looked at, and count it as failed until it is known to be none.
--
-- KEYS    what failures are counted by: their network, and all together
-- ARGV    for each key five: failures that cost no wait; the wait after the one behind them, ms,
--         doubled by each further one; the longest wait, ms; after how long one failure is forgotten,
--         ms; the most failures that are counted
-- Returns { 1, ms to wait if this one fails } when it may be looked at; { 0, ms left to wait } when
-- not, and nothing is counted then.
--
-- A key holds "until next": ms at which the last failure is forgotten, and ms before which no try is
-- looked at. Counted first, as tries at the same time would all be looked at before one has failed;
-- `begin_session` takes the count back. A wait that is longer than any, or more failures than are
-- counted, date from before Redis's clock was put back: nobody could sign in for as long as the jump.
-- Atomic because two tries must not both be the last without a wait. The clock is Redis's own, as the
-- processes' may differ.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept, blocked = {}, 0
for i = 1, #KEYS do
  local at, until_ms, next_ms = (i - 1) * 5, now, now
  local first, second = string.match(redis.call('GET', KEYS[i]) or '', '^(%d+) (%d+)$')
  if first then
    until_ms, next_ms = tonumber(first), tonumber(second)
  end
  if next_ms - now <= tonumber(ARGV[at + 3]) then
    blocked = math.max(blocked, next_ms - now)
  end
  kept[i] = math.min(math.max(until_ms, now), now + ARGV[at + 4] * (ARGV[at + 5] - 1))
end
if blocked > 0 then
  return { 0, blocked }
end
local longest = 0
for i = 1, #KEYS do
  local at = (i - 1) * 5
  local until_ms = kept[i] + ARGV[at + 4]
  local over = math.ceil((until_ms - now) / ARGV[at + 4]) - ARGV[at + 1]
  local wait = 0
  if over > 0 then
    wait = math.min(ARGV[at + 2] * 2 ^ (over - 1), tonumber(ARGV[at + 3]))
  end
  longest = math.max(longest, wait)
  -- Deleted first, as a full Redis lets a script grow once it has begun to write without growing.
  redis.call('DEL', KEYS[i])
  local left = math.max(until_ms - now, wait)
  local value = string.format('%.0f %.0f', until_ms, now + wait)
  redis.call('SET', KEYS[i], value, 'PX', string.format('%.0f', left))
end
return { 1, longest }
