"""What is read of a callback's HTTP request before it is judged: its headers, its body."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import CallbackTooLarge
from service.host.answers import AsgiMessage, Receive, Scope

FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"
"""Media types of a callback's body."""

SIGNED_WITH = b"x-twilio-webhooks-signature-settings"
"""Header that names a shared key; callbacks with it take the long way in."""


@dataclass(slots=True)
class Headers:
    """The headers a callback is judged by.

    length: Content-Length. signature: X-Twilio-Signature.
    signed_with: X-Twilio-Webhooks-Signature-Settings. event_signature: Elements-Webhook-Signature.
    """

    content_type: bytes = b""
    length: int | None = None
    signature: bytes | None = None
    signed_with: bytes | None = None
    event_signature: bytes | None = None

    @classmethod
    def read(cls, scope: Scope) -> Headers:
        """Read them; servers send names lower-case."""
        headers = cls()
        for name, value in scope["headers"]:
            if name == b"content-type":
                headers.content_type = value
            elif name == b"content-length":
                headers.length = int(value)
            elif name == b"x-twilio-signature":
                headers.signature = value
            elif name == SIGNED_WITH:
                headers.signed_with = value
            elif name == b"elements-webhook-signature":
                headers.event_signature = value
        return headers


def media_type(content_type: bytes) -> bytes:
    """Return a Content-Type without its parameters, such as a charset, in lower case."""
    return content_type.partition(b";")[0].strip().lower()


async def read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """Read a whole body; None when the caller left.

    Raises CallbackTooLarge as soon as it is longer than the limit, and reads no further.
    """
    message: AsgiMessage = await receive()
    # Grown in place: an event in many pieces would be copied once for each of them.
    body = bytearray(message.get("body", b""))
    while message.get("more_body", False):
        if len(body) > limit_bytes:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        return None
    if len(body) > limit_bytes:
        raise CallbackTooLarge(f"more than {limit_bytes} bytes")
    return bytes(body)
