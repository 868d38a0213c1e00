"""The loops between the queues: inbox to handler to settle, outbox to connector.

They fetch, ask `core` or a handler, and store; who owns which partition is kept here too.
"""
