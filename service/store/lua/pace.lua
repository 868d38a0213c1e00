-- Ask for a turn to send from one of our numbers; the pace is shared by every process.
--
-- KEYS[1] pace of the number: when its last turn given out ends, microseconds since the epoch
-- ARGV[1] segments to send   ARGV[2] microseconds one segment takes
-- ARGV[3] furthest a turn may lie ahead to be given out, microseconds
-- Returns microseconds until the turn, which is then taken; if it lies further ahead than that,
-- minus the microseconds until it is worth asking again, and nothing is taken.
--
-- Atomic because two processes asking at once must get two turns. Generic cell rate algorithm; the
-- clock is Redis's own, as the processes' may differ.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
-- No reply has a hundred segments: this one would end later than any turn given out, as Redis's clock
-- was put back since. Nothing would be sent for as long as the jump.
if free - now > ARGV[3] + 100 * ARGV[2] then
  free = now
end
local wait = free - now
if wait > tonumber(ARGV[3]) then
  return -(wait - ARGV[3])
end
local ends = free + ARGV[1] * ARGV[2]
-- A full Redis lets a script grow once it has begun to write without growing: this must go on
-- there, as it is what empties it.
redis.call('PEXPIRE', KEYS[1], 1000)
redis.call('SET', KEYS[1], string.format('%.0f', ends), 'PX', math.ceil((ends - now) / 1000) + 1000)
return wait
