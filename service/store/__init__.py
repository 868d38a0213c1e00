"""Everything that speaks to Redis, and the only importer of it: keys, scripts, queues, leases.

Each script under `lua/` is one atomic step; the module beside it wraps it and names its result.
"""
