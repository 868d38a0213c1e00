"""The answers of the public listener.

Only a 200 carries TwiML. Everything else is a short plain text: Twilio texts such a body to the
sender when it comes with a 200, and shows it in its debugger otherwise.
"""

from __future__ import annotations

from service.core.twilio import twiml
from service.host.answers import CLOSE, answer

ACCEPTED = answer(200, twiml.EMPTY, twiml.CONTENT_TYPE)
FORBIDDEN = answer(403, b"forbidden")
FORBIDDEN_UNREAD = answer(403, b"forbidden", headers=CLOSE)
UNSUPPORTED = answer(415, b"expected a form or JSON", headers=CLOSE)
TOO_LARGE = answer(413, b"too large", headers=CLOSE)
