"""Builds the service from Settings: clients, loops, apps, and the order they start and stop in.

The only folder that knows how the parts fit together; the commands call it and nothing else.
"""
