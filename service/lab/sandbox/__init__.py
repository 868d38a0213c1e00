"""A local stand-in for Open Connectors plus the phone network, for the demo and the tests.

It behaves as documented for what Parley uses; `page/` is the phone in the browser.
"""
