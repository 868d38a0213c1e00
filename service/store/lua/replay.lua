-- Put one dead letter back into its partition's inbox, behind what is there.
--
-- KEYS[1] dead   KEYS[2] inbox
-- ARGV[1] dead letter's id   ARGV[2] most entries an inbox may hold
-- Returns the inbox entry's id; "gone" when there is no such dead letter; "full" at the bound.
--
-- A reply goes through the inbox as well: it takes its conversation's turn there and is settled by
-- the partition's owner, so the outbox has one writer only.
-- Atomic because between the two streams it would be lost, or there twice.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if not found[1] then
  return 'gone'
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then
  return 'full'
end
local stored = {}
local fields = found[1][2]
for i = 1, #fields, 2 do
  stored[fields[i]] = fields[i + 1]
end
local id = redis.call('XADD', KEYS[2], '*', 'v', stored.v, 'k', stored.k, 'd', stored.d)
redis.call('XDEL', KEYS[1], ARGV[1])
return id
