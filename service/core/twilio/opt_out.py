"""Texts that Twilio has answered itself: STOP, START, HELP and their kin. Pure.

On long codes Twilio keeps the list of people who opted out, and sends the confirmations. A second
answer from us is unwelcome after HELP, and forbidden after STOP. With a messaging service it says
what it has done (OptOutType), and its silence means that it has done nothing. A number of its own
says nothing, so there the words decide. Those that opt in again do so for somebody who is opted
out; from anybody else they are an answer like any other ("Confirm? YES"): Twilio does nothing.

Source: Twilio, "Support for opt-out keywords", "Advanced opt-out".
"""

from __future__ import annotations

import re
from collections.abc import Collection

from service.core.twilio.error_codes import OPTED_OUT
from service.model import DeliveryStatus, Message

STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "REVOKE", "OPTOUT"})
START = frozenset({"START", "UNSTOP", "YES"})
HELP = frozenset({"HELP", "INFO"})

WORDS = STOP | START | HELP
"""What Twilio answers on a long code, unless its support has changed that for an account."""

LONG_CODE = re.compile(r"\+[1-9]\d{7,14}")
"""An E.164 number. Short codes and channel addresses ("whatsapp:+1...") are not looked after."""


START_IF_OUT = "START if opted out"
"""What `kind_of` says of a word that opts in again, when it depends on who has sent it."""


def kind_of(message: Message, words: Collection[str] = WORDS) -> str:
    """Tell what Twilio has taken a text for: "STOP", "START" or "HELP"; "" when it is ours.

    words: in upper case; those of no kind of their own count as STOP.
    Returns START_IF_OUT when `judge` has to be asked, with what is known of the sender.
    """
    said = message.raw.get("OptOutType", "").strip().upper()
    if said or message.raw.get("MessagingServiceSid"):
        return said
    # Twilio wants the word alone; it looks away from case and blanks, and from nothing else.
    word = message.body.strip().upper()
    if word not in words or not LONG_CODE.fullmatch(message.to):
        return ""
    return START_IF_OUT if word in START else "HELP" if word in HELP else "STOP"


def judge(kind: str, *, opted_out: bool) -> str:
    """Tell what `kind_of` left open: "START" from somebody who is opted out, else "".

    opted_out: as our own list says, which is all that we know of Twilio's.
    """
    if kind != START_IF_OUT:
        return kind
    return "START" if opted_out else ""


def is_answered(kind: str) -> bool:
    """Tell whether Twilio has answered a text of this kind, so that keyword routes alone take it.

    kind: as `judge` returns it, here and below.
    """
    return bool(kind)


def opts_out(kind: str) -> bool:
    """Tell whether the sender is opted out from this text on."""
    return kind == "STOP"


def opts_in(kind: str) -> bool:
    """Tell whether the sender is opted in again by this text."""
    return kind == "START"


def is_reported(report: DeliveryStatus) -> bool:
    """Tell whether a report says that its recipient has opted out of our number."""
    return report.error_code == str(OPTED_OUT)
