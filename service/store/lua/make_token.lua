-- Keep a one-time token that signs in at the console.
--
-- KEYS[1] token:<its digest>
-- ARGV[1] role that it signs in with   ARGV[2] how long it can be used, ms
-- Returns 1.
--
-- Atomic because a token without its end would sign in for ever. The deletion of nothing comes
-- first, as a full Redis lets a script grow once it has begun to write without growing: a full
-- Redis is one of the things that the console is opened for.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'role', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
