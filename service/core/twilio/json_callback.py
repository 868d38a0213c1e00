"""Reads callbacks whose body is JSON: Twilio's own. The platform's are read by `core.events`.

Nothing here depends on how a message is wrapped: it is any object in the body that has a sid, a
From and a To, in whichever of Twilio's two spellings, the form's (MessageSid) or the resource's
(sid, date_sent). What is found has the form's names, as the rest of the door knows them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.errors import CallbackIncomplete

NAMES: Mapping[str, str] = {
    "messagesid": "MessageSid",
    "smssid": "SmsSid",
    "sid": "MessageSid",
    "accountsid": "AccountSid",
    "messagingservicesid": "MessagingServiceSid",
    "from": "From",
    "to": "To",
    "body": "Body",
    "nummedia": "NumMedia",
    "numsegments": "NumSegments",
    "smsstatus": "SmsStatus",
    "messagestatus": "MessageStatus",
    "errorcode": "ErrorCode",
    "optouttype": "OptOutType",
}
"""The form's names by every spelling without its case and underscores."""

MEDIA = re.compile(r"media(url|contenttype)(\d+)")

DEEPEST = 8
"""Levels searched. The platform's wrapping has four."""

Fields = dict[str, str]


def read(body: bytes) -> Sequence[Fields]:
    """Return the messages and delivery reports in a JSON body, in its order, each once.

    body: raw, verified.
    Raises CallbackIncomplete when there is none, or the body is no JSON.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CallbackIncomplete("the body is no JSON") from error
    found: dict[tuple[str, str | None], Fields] = {}
    for fields in _search(value, DEEPEST):
        key = fields["MessageSid"], fields.get("MessageStatus")
        # Shown twice, one is enough, and the longer one has what the other left out.
        if key not in found or len(fields) > len(found[key]):
            found[key] = fields
    if not found:
        raise CallbackIncomplete("no message with MessageSid, From and To in the JSON")
    return tuple(found.values())


def _search(value: Any, levels: int) -> Iterator[Fields]:
    if not levels:
        return
    if isinstance(value, dict):
        fields = form_fields(value)
        if all(fields.get(name) for name in ("MessageSid", "From", "To")):
            yield _as_form(fields, value)
        else:
            for each in value.values():
                yield from _search(each, levels - 1)
    elif isinstance(value, list):
        for each in value:
            yield from _search(each, levels - 1)


def form_fields(value: Mapping[str, Any]) -> Fields:
    """Give an object's own values the form's names; what the form does not know keeps its name."""
    fields: Fields = {}
    for name, each in value.items():
        if each is None or isinstance(each, dict | list):
            continue
        plain = name.replace("_", "").lower()
        media = MEDIA.fullmatch(plain)
        if media:
            kind = "MediaUrl" if media[1] == "url" else "MediaContentType"
            known = f"{kind}{media[2]}"
        else:
            known = NAMES.get(plain) or _whole(name)
        fields[known] = _whole(each) if isinstance(each, str) else json.dumps(each)
    return fields


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can write and UTF-8 can't."""
    return text.encode("utf-8", "replace").decode()


def _as_form(fields: Fields, value: Mapping[str, Any]) -> Fields:
    """Say whether it came in or went out as the form does: by MessageStatus and SmsStatus."""
    if "MessageStatus" in fields or "SmsStatus" in fields:
        return fields
    status, direction = (str(value.get(name) or "").lower() for name in ("status", "direction"))
    if direction.startswith("outbound") or (not direction and status not in {"", "received"}):
        return fields | {"MessageStatus": status}
    return fields | {"SmsStatus": "received"}
