"""Twilio's error codes that sending by SMS can meet: what each means, and what to do. Pure.

The connector relays them inside `providerMessage`, in no fixed form. What is not in the table is
judged by its HTTP status alone (`service.core.delivery`).
Source: Twilio's error dictionary (twilio.com/docs/api/errors/<code>), one page a code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

OPTED_OUT = 21610
"""The recipient has opted out."""


class Fate(Enum):
    """What becomes of a text that was refused with a code.

    PASSING: not taken now, though nothing is wrong with it: the same text is accepted later.
    ACCOUNT: nothing is sent for anybody until somebody mends the account; then it is accepted.
    FINAL: this text to this number is refused however often it is tried.
    """

    PASSING = "passing"
    ACCOUNT = "account"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One code. means, advice: a phrase each, without a full stop at the end."""

    means: str
    fate: Fate
    advice: str


_SEND_LATER = "replay it later; nothing is wrong with our side"
_CHECK_NUMBER = "check the number; drop the dead letter if it is not somebody's mobile"
_CHECK_SENDER = "check TWILIO_SENDER and the number's page in the Twilio console"
_CHECK_TEMPLATE = "check config/message.json; `parley connector check` compares it"
_REGISTER = "register the number and its campaign for US A2P 10DLC in the Twilio console"

MEANINGS: Mapping[int, Meaning] = {
    20003: Meaning(
        "Twilio does not accept the account sid and token",
        Fate.ACCOUNT,
        "check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, and that the account is active",
    ),
    20005: Meaning(
        "the account is not active",
        Fate.ACCOUNT,
        "look at the account's state in the Twilio console",
    ),
    20006: Meaning(
        "the account may not do this",
        Fate.ACCOUNT,
        "check TWILIO_ACCOUNT_SID and what its auth token is allowed",
    ),
    20404: Meaning(
        "Twilio does not know the account, or what was addressed in it",
        Fate.ACCOUNT,
        "check TWILIO_ACCOUNT_SID, and that the sender belongs to that account",
    ),
    20429: Meaning(
        "too many requests at once; not processed",
        Fate.PASSING,
        "nothing, it is sent again; if it stays, lower SEND_CONCURRENCY or SEGMENTS_PER_SECOND",
    ),
    21211: Meaning("the recipient's number is none", Fate.FINAL, _CHECK_NUMBER),
    21212: Meaning("the sender is no valid number or name", Fate.FINAL, _CHECK_SENDER),
    21408: Meaning(
        "the account may not send to the recipient's country",
        Fate.FINAL,
        "enable the country under Messaging, Geo permissions in the Twilio console, then replay",
    ),
    21602: Meaning("the text is empty", Fate.FINAL, _CHECK_TEMPLATE),
    21604: Meaning("the recipient is missing", Fate.FINAL, _CHECK_TEMPLATE),
    21606: Meaning("the sender can't send SMS for this account", Fate.FINAL, _CHECK_SENDER),
    21608: Meaning(
        "a trial account sends to verified numbers only",
        Fate.FINAL,
        "verify the recipient in the Twilio console or upgrade the account, then replay",
    ),
    OPTED_OUT: Meaning(
        "the recipient has opted out",
        Fate.FINAL,
        "drop it; only the recipient can change that, by texting START",
    ),
    21611: Meaning(
        "the sender's queue at Twilio is full (10 hours of texts)",
        Fate.PASSING,
        "nothing, it is sent again; set SEGMENTS_PER_SECOND or use more senders",
    ),
    21612: Meaning(
        "there is no route from this sender to this recipient",
        Fate.FINAL,
        "use a sender that reaches the recipient's country, then replay",
    ),
    21614: Meaning("the recipient is no mobile number", Fate.FINAL, _CHECK_NUMBER),
    21617: Meaning(
        "the text is longer than 1,600 characters",
        Fate.FINAL,
        "have the handler answer in several shorter replies",
    ),
    21620: Meaning(
        "a media URL is invalid",
        Fate.FINAL,
        "have the handler give whole https:// URLs that Twilio can reach",
    ),
    21623: Meaning(
        "more media than a message may carry",
        Fate.FINAL,
        "have the handler spread the pictures over several replies",
    ),
    30001: Meaning(
        "the queue overflowed",
        Fate.PASSING,
        "nothing, it is sent again; set SEGMENTS_PER_SECOND or use more senders",
    ),
    30002: Meaning(
        "the account is suspended",
        Fate.ACCOUNT,
        "look at the account's state and balance in the Twilio console",
    ),
    30003: Meaning("the phone can't be reached at present", Fate.FINAL, _SEND_LATER),
    30004: Meaning(
        "the recipient or the carrier blocks texts from us",
        Fate.FINAL,
        "ask the recipient by another way; drop the dead letter",
    ),
    30005: Meaning("the number is unknown or out of service", Fate.FINAL, _CHECK_NUMBER),
    30006: Meaning("a landline, or a carrier that can't be reached", Fate.FINAL, _CHECK_NUMBER),
    30007: Meaning(
        "filtered as unwanted by Twilio or the carrier",
        Fate.FINAL,
        "change the text (links, wording); look at the sender's registration",
    ),
    30008: Meaning("the carrier failed without a reason", Fate.FINAL, _SEND_LATER),
    30022: Meaning(
        "faster than the carriers allow the campaign",
        Fate.PASSING,
        "nothing, it is sent again; set SEGMENTS_PER_SECOND to the campaign's rate",
    ),
    30034: Meaning("a US number that is not registered for A2P 10DLC", Fate.FINAL, _REGISTER),
    63016: Meaning(
        "WhatsApp: more than 24 hours since the recipient wrote, and no approved template",
        Fate.FINAL,
        "drop it, or write with an approved template",
    ),
}


def find_code(said: str) -> int | None:
    """Find Twilio's own code (five digits, such as 21610) in what the provider said.

    Five digits may also be a short code: what is called a code, or linked as one, comes first; then
    what the table knows; then whatever stands alone.
    """
    named = re.search(r"(?:code\W{0,4}|errors/)(\d{5})(?!\d)", said, re.IGNORECASE)
    if named:
        return int(named[1])
    alone = [int(digits) for digits in re.findall(r"(?<![\d+.-])(\d{5})(?![\d-])", said)]
    return next((code for code in alone if code in MEANINGS), alone[0] if alone else None)


def explain(error: str) -> tuple[int, Meaning | None] | None:
    """Find code and meaning in a connector error's text, as a dead letter keeps it.

    Returns None without a code; (code, None) for one that the table does not have.
    """
    _, relayed, rest = error.partition("providerMessage: ")
    code = find_code(rest.partition("; requestId:")[0]) if relayed else None
    return None if code is None else (code, MEANINGS.get(code))
