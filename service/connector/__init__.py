"""Everything that speaks to Open Connectors: client, provisioning.

What a request says and what an answer means is decided in `core`; here they are only carried.
"""
