-- Ask whether a MessageSid was accepted, and change nothing.
--
-- KEYS[1] seen:<MessageSid>
-- Returns 1 when it was, 0 when not.
--
-- A script so that a thousand rows of a log are asked about in a few round trips, Cluster included.
return redis.call('EXISTS', KEYS[1])
