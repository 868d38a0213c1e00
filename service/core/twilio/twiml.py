"""The answer to Twilio. Replies leave through the connector, so it is always the empty one."""

from __future__ import annotations

EMPTY = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
"""Says "nothing to send". An empty body would be Twilio's error 11200."""

CONTENT_TYPE = b"text/xml"
"""Anything readable as plain text is texted to the sender; none at all is error 12300."""
