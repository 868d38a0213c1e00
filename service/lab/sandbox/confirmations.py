"""What Twilio itself texts back to STOP, START, HELP and their kin. Pure.

Source: Twilio, "Support for opt-out keywords": its standard confirmations.
"""

from __future__ import annotations

from service.core.twilio import opt_out

STOPPED = (
    "You have successfully been unsubscribed. You will not receive any more messages from this "
    "number. Reply START to resubscribe."
)
STARTED = (
    "You have successfully been re-subscribed to messages from this number. Reply HELP for help. "
    "Reply STOP to unsubscribe. Msg&Data Rates May Apply."
)
HELPED = "Reply STOP to unsubscribe. Msg&Data Rates May Apply."


def answer_of_network(word: str, ours: str, *, opted_out: bool) -> str:
    """Return Twilio's own answer to a text, "" where it leaves it to the service.

    word: the text in upper case, without blanks around it. opted_out: its sender had opted out.
    """
    if not opt_out.LONG_CODE.fullmatch(ours):
        return ""
    if word in opt_out.STOP:
        return STOPPED
    if word in opt_out.HELP:
        return HELPED
    return STARTED if word in opt_out.START and opted_out else ""
