"""Pure decisions: values in, values out; no `await`, clock, dice, environment or logging.

Signatures, callbacks, retries, entries, templates: other folders call in, none is called.
"""
