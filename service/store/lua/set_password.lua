-- Set the password of a role, or take it away.
--
-- KEYS[1] passwords
-- ARGV[1] role   ARGV[2] argon2id hash of the password; "" takes it away
-- Returns 1 when the role had one before, 0 when not.
--
-- Atomic because a crash between taking out and writing would leave none. Off before on, as a full
-- Redis lets a script grow once it has begun to write without growing.
local had = redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return had
