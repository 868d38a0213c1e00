"""What a verified callback means: an inbound message, or a report on one of ours.

Takes parameters by name and returns model values. The door calls it after the signature was
verified; nothing here is reached by anybody but Twilio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count

from service.errors import AccountRejected, CallbackIncomplete
from service.model import DeliveryStatus, Media, Message, MessageSid

REQUIRED = ("MessageSid", "From", "To")
"""Without these there is no key to de-duplicate by and no conversation to put it in."""


def check_account(fields: Mapping[str, str], account: str) -> None:
    """Make sure that the callback is about our account.

    fields: parameters by name. account: our AccountSid.
    Raises AccountRejected when AccountSid is another or missing. A subaccount signs with its own
        token, so this is met only where one token serves two accounts, or by a mistaken setting.
    """
    found = fields.get("AccountSid")
    if found != account:
        raise AccountRejected("AccountSid is not ours" if found else "AccountSid is missing")


def is_status(fields: Mapping[str, str]) -> bool:
    """Tell a delivery report from an inbound message.

    Both carry MessageSid, From, To and SmsStatus; only a report has MessageStatus, and only an
    inbound message the SmsStatus "received".
    """
    return "MessageStatus" in fields and fields.get("SmsStatus") != "received"


def parse_inbound(fields: Mapping[str, str], received_at: datetime) -> Message:
    """Build the message that an inbound callback announces.

    fields: parameters by name, the last value of a repeated one; kept whole as `raw`.
    received_at: timezone-aware, UTC.
    Raises CallbackIncomplete naming every required parameter that is missing or empty.
    Source: Twilio, "Request parameters" of incoming messages. Body is absent for a picture alone.
    """
    missing = [name for name in REQUIRED if not fields.get(name)]
    if missing:
        raise CallbackIncomplete(f"missing {', '.join(missing)}")
    return Message(
        sid=MessageSid(fields["MessageSid"]),
        from_=fields["From"],
        to=fields["To"],
        body=fields.get("Body", ""),
        media=_media(fields) if "MediaUrl0" in fields else (),
        account=fields.get("AccountSid", ""),
        received_at=received_at,
        raw=fields,
    )


def parse_status(fields: Mapping[str, str]) -> DeliveryStatus:
    """Build the report that a status callback makes on one of our replies.

    fields: parameters by name. Raises CallbackIncomplete naming what is missing or empty.
    Source: Twilio, "Monitor the status of your outbound message".
    """
    missing = [name for name in (*REQUIRED, "MessageStatus") if not fields.get(name)]
    if missing:
        raise CallbackIncomplete(f"missing {', '.join(missing)}")
    return DeliveryStatus(
        sid=MessageSid(fields["MessageSid"]),
        status=fields["MessageStatus"].lower(),
        error_code=fields.get("ErrorCode", ""),
        from_=fields["From"],
        to=fields["To"],
    )


def with_media(fields: Mapping[str, str], media: Sequence[Media]) -> dict[str, str]:
    """Return parameters with attachments that were learned otherwise, as the form has them."""
    urls = {f"MediaUrl{place}": each.url for place, each in enumerate(media)}
    types = {f"MediaContentType{place}": each.content_type for place, each in enumerate(media)}
    return {**fields, **urls, **types}


def _media(fields: Mapping[str, str]) -> tuple[Media, ...]:
    # Counted by what is there: NumMedia says the same, and may be missing.
    media = []
    for index in count():
        url = fields.get(f"MediaUrl{index}")
        if url is None:
            break
        media.append(Media(url, fields.get(f"MediaContentType{index}", "")))
    return tuple(media)
