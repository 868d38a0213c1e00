"""What answers a message: the router handlers register with, their loading, and how one is run.

Handlers of a deployment live outside the package, in the file or module that HANDLERS names.
"""
