-- Tell what Redis's clock shows.
--
-- KEYS[1] any key of the partition whose times are read: each node of a Cluster has its own clock
-- Returns ms since the epoch.
--
-- Changes nothing.
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
