"""Tells whether a verified form is written the one way Twilio would have written it. Pure.

Twilio signs names and values run together, without anything between them. So one signature fits
many forms: a boundary between two parameters can be moved, and a name can hide in the value before
it. A captured callback came in again like that under another sid, and a delivery report as a text.
What is read of a form therefore has to have its exact shape, and no parameter may be hidden.

What people write (Body, names, labels) can't be held to a shape. It can swallow neighbours, but
neither a sid nor an address: those would be missing then, or stand in somebody else's value.

Source: Twilio, "Validating signatures from Twilio", "Request parameters" of incoming messages, of
WhatsApp and RCS, and "Monitor the status of your outbound message".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

from service.core.twilio.forms import Pairs
from service.errors import CallbackForged

PLACES = frozenset(
    {
        *("FromCity", "FromState", "FromZip", "FromCountry"),
        *("ToCity", "ToState", "ToZip", "ToCountry"),
    }
)

FREE = frozenset(
    {
        *("Body", "ProfileName", "ButtonText", "ButtonPayload", "ListId", "ListTitle", "Label"),
        *("Address", "ReferralBody", "ReferralHeadline", "ReferralSourceId", "ReferralSourceType"),
        *("ReferralSourceUrl", "ReferralMediaUrl", "ReferralCtwaClid", "ChannelMetadata"),
        *("ChannelStatusMessage", "OriginalRepliedMessageSender", "ForwardedCount"),
    }
)
"""Parameters without a shape: what people typed, and the channels' own data."""

_ADDRESS = (
    r"\+\d{1,20}|\d{3,20}"  # a number, a short code
    r"|[A-Za-z0-9][A-Za-z0-9 &+_.-]{0,10}"  # a sender's name, GSM's longest
    r"|(?!whatsapp:)[a-z][a-z0-9-]{1,19}:[!-~]{1,255}"  # rcs:agent, messenger:12345
    r"|whatsapp:(?:\+\d{1,20}|[A-Z]{2}\.[A-Za-z0-9]{1,128})"
)

SHAPES: Mapping[str, str] = {
    "MessageSid": r"(?:SM|MM)[0-9a-fA-F]{32}",
    "SmsSid": r"(?:(?:SM|MM)[0-9a-fA-F]{32})?",
    "SmsMessageSid": r"(?:(?:SM|MM)[0-9a-fA-F]{32})?",
    "AccountSid": r"AC[0-9a-fA-F]{32}",
    "MessagingServiceSid": r"(?:MG[0-9a-fA-F]{32})?",
    "OriginalRepliedMessageSid": r"(?:[A-Z]{2}[0-9a-fA-F]{32})?",
    "ApiVersion": r"(?:\d{4}-\d\d-\d\d|v\d+)?",
    "From": _ADDRESS,
    "To": _ADDRESS,
    "NumMedia": r"\d{0,3}",
    "NumSegments": r"\d{0,4}",
    "ReferralNumMedia": r"\d{0,3}",
    "SmsStatus": r"[a-z_]{0,30}",
    "MessageStatus": r"[a-zA-Z_]{0,30}",
    "ErrorCode": r"\d{0,6}",
    "OptOutType": r"[A-Za-z]{0,10}",
    "MessageType": r"[A-Za-z_]{0,40}",
    "WaId": r"[!-~]{0,64}",
    "AddOns": r"(?s:\{.*\})?",
    "RawDlrDoneDate": r"\d{0,14}",
    "ChannelPrefix": r"[a-z0-9_-]{0,20}",
    "ChannelInstallSid": r"(?:[A-Z]{2}[0-9a-fA-F]{32})?",
    "ChannelToAddress": r"[!-~]{0,255}",
    "ChannelStatusCode": r"\d{0,10}",
    "EventType": r"[A-Z_]{0,20}",
    "Forwarded": r"(?:true|false)?",
    "FrequentlyForwarded": r"(?:true|false)?",
    "Latitude": r"[\d.+-]{0,24}",
    "Longitude": r"[\d.+-]{0,24}",
    "ReferralMediaContentType": r"[a-z0-9.+-]{0,40}/?[a-z0-9.+-]{0,80}",
    **{f"MediaUrl{number}": r"https?://[!-~]{1,2000}" for number in range(10)},
    **{
        f"MediaContentType{number}": r"[a-zA-Z0-9.+!#$&^_-]{0,80}/?[a-zA-Z0-9.+!#$&^_-]{0,80}"
        r"(?: ?;[ -9;-~]{0,80})?"  # without a colon, which the URL after it has
        for number in range(10)
    },
}
"""The exact shape of each parameter that has one; most may be blank. Of media Twilio sends ten."""

DOCUMENTED = frozenset({*SHAPES, *PLACES, *FREE})

_FITS = {name: re.compile(shape).fullmatch for name, shape in SHAPES.items()}
_is_name = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}").fullmatch
_WHOLE_SID = re.compile(r"MessageSid=?(?:SM|MM)[0-9a-fA-F]{32}").search

_names_in = re.compile(
    "|".join(sorted((name for name in DOCUMENTED if len(name) >= 5), reverse=True))
).findall
"""Names that no place has in it; a short one ("To", "Body") might be."""

REQUIRED = frozenset({"MessageSid", "From", "To"})
ADDRESSES = frozenset({"From", "To"})

RECEIVED = frozenset({"", "received", "receiving"})
"""What SmsStatus says of an inbound message."""

_IDS = ("MessageSid", "SmsSid", "SmsMessageSid", "From", "To")
_PLAIN = {
    "SmsStatus": "received",
    **{name: SHAPES[name] for name in ("ApiVersion", "MessagingServiceSid", "NumMedia")},
    "NumSegments": SHAPES["NumSegments"],
    # No small letter before a capital, as every name has it that is made of words.
    **dict.fromkeys(sorted(PLACES), r"(?:[^a-z\n]++|[a-z]++(?![A-Z]))*+"),
}
_PLAIN_NAMES = frozenset({*_PLAIN, *REQUIRED, "SmsSid", "SmsMessageSid", "AccountSid", "Body"})
_fits_plain = re.compile("\n".join(_PLAIN.values())).fullmatch
_fits_ids = re.compile(
    rf"({SHAPES['MessageSid']})\n(?:\1)?\n(?:\1)?\n\+\d{{1,20}}\n\+\d{{1,20}}"
).fullmatch


@lru_cache(maxsize=4096)
def _is_plain(*values: str) -> bool:
    """Tell whether the values of `_PLAIN`, in its order, are an ordinary text's.

    The same places and counts come again and again, so they are looked at once.
    """
    return _fits_plain("\n".join(values)) is not None


def check_canonical(pairs: Pairs, fields: Mapping[str, str]) -> None:
    """Make sure that a verified form hides nothing.

    pairs: every parameter, in the order received. fields: the same by name, of our account.
    Raises CallbackForged naming the parameter, never its value. A parameter that is missing is
        the parser's business.
    """
    known = fields.get
    if (
        len(fields) == len(pairs)
        and fields.keys() <= _PLAIN_NAMES
        and _fits_ids("\n".join([known(name, "") for name in _IDS]))
        and _is_plain(*[known(name, "") for name in _PLAIN])
    ):
        return
    _check_repeated(pairs)
    _check_shapes(fields)
    sid = known("MessageSid")
    for name in ("SmsSid", "SmsMessageSid") if sid else ():
        if known(name) not in {None, "", sid}:
            raise CallbackForged(f"{name} is not MessageSid")
    if "MessageStatus" not in fields and known("SmsStatus", "") not in RECEIVED:
        raise CallbackForged("it is a delivery report without MessageStatus")
    _check_unknown(fields)


def _check_shapes(fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        fits = _FITS.get(name)
        if fits is not None and not fits(value) and (value or name not in REQUIRED):
            raise CallbackForged(f"{name} is not written as Twilio writes it")
        if name in PLACES or name in ADDRESSES or name.startswith("Media"):
            # Names of parameters have small letters; places mostly come in capitals.
            if value != value.upper():
                _check_place(name, value, fields)
        elif name != "Body" and "MessageSid" in value and _WHOLE_SID(value):
            where = name if name in DOCUMENTED else "an undocumented parameter"
            raise CallbackForged(f"a MessageSid is hidden in {where}")


def _check_repeated(pairs: Pairs) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen and name in DOCUMENTED:
            raise CallbackForged(f"{name} is there twice")
        seen.add(name)


def _check_place(name: str, value: str, fields: Mapping[str, str]) -> None:
    """Look for the names of parameters that a place, an address or a picture swallowed."""
    if any(each not in fields for each in _names_in(value)):
        raise CallbackForged(f"another parameter is hidden in {name}")


def _check_unknown(fields: Mapping[str, str]) -> None:
    """Look at parameters that Twilio has not documented, which it adds without notice.

    A documented name can hide at the start of one, or be cut in two by one; then it is missing.
    """
    unknown = [name for name in fields if name not in DOCUMENTED]
    if not unknown:
        return
    missing = tuple(name for name in DOCUMENTED if name not in fields)
    for name in unknown:
        if not _is_name(name):
            raise CallbackForged("a parameter has a name that none can have")
        if (name + fields[name]).startswith(missing):
            raise CallbackForged(f"another parameter is hidden in {name[:40]!a}")
    for (_, before), (name, _) in pairwise(sorted(fields.items())):
        if name in DOCUMENTED:
            continue
        text = name + fields[name]
        for hidden in missing:
            for cut in range(1, len(hidden)):
                if text.startswith(hidden[cut:]) and before.endswith(hidden[:cut]):
                    raise CallbackForged(f"{hidden} is cut in two")
