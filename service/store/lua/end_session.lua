-- End a session of the console.
--
-- KEYS[1] session:<digest of its cookie>   KEYS[2] sessions
-- Returns 1; 0 when there is no such session (any more).
--
-- Atomic because of two who end it one did, and one is told that it was over.
local was = redis.call('ZREM', KEYS[2], string.match(KEYS[1], '[^:]+$'))
redis.call('DEL', KEYS[1])
return was
