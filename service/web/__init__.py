"""The two listeners: callbacks and liveness for the internet, readiness for the inside.

Checks and parsing are `core`'s, acceptance is the store's; no code of a handler is reachable here.
"""
