-- Forget what was typed of a setup and is not in use.
--
-- KEYS[1] draft
-- ARGV[1] its version; "" forgets any
-- Returns 1 when it was forgotten, 0 when there is another one, or none.
--
-- Atomic because what somebody types in between would be forgotten with it.
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
