"""What may be shown of an address or a secret, in logs, pages and command output.

Every log line that names a person's number goes through `mask_number`; nothing else shortens one.
"""

from __future__ import annotations

import re

MASK = "********"
"""Stands for a secret. Eight stars as Open Connectors shows its own, whatever the length."""

DOTS = "•••"
"""Stands for the hidden digits of an address, however many they are."""

SHOWN_DIGITS = 4
"""Trailing characters left readable: enough to find a conversation by, too few to dial it."""

WHOLE_NUMBER_LENGTH = 8
"""Below this, four readable characters would be half the address or more: nothing is shown."""


def mask_number(address: str) -> str:
    """Shorten an address to what a log may hold: `+14155550100` becomes `+1•••0100`.

    address: as Twilio wrote it: an E.164 number, short code, alphanumeric sender or channel
        address ("whatsapp:+1..."). A channel's prefix and a number's "+" and first digit stay.
    Returns dots alone for short codes, names and anything else shorter than a phone number,
        and "" for "".
    """
    channel, colon, rest = address.rpartition(":")
    if not rest:
        return f"{channel}{colon}"
    if len(rest) < WHOLE_NUMBER_LENGTH:
        return f"{channel}{colon}{DOTS}"
    head = rest[:2] if rest.startswith("+") else ""
    return f"{channel}{colon}{head}{DOTS}{rest[-SHOWN_DIGITS:]}"


def mask_login(url: str) -> str:
    """Hide who logs in, and how, in an address: `https://user:password@host` loses both.

    What stands before the last "@" goes: of a malformed address nobody knows where it ends.
    """
    return re.sub(r"://.*@", f"://{MASK}@", url, count=1, flags=re.DOTALL)
