"""What a process of the service stands on: listeners, processes, the log, the embedded Redis.

Knows no part of the service; `wiring` builds the service on it, `lab` what stands in for the world.
"""
