"""Open Connectors on the wire: headers, bodies, and what its answers mean. Pure.

Source: SAP Open Connectors, "Twilio SMS: Authenticate Through API", and the platform's /instances
and /hubs/messaging/messages resources. Fields that the documentation leaves open are read under
every name it uses (`sid` or `id`, tags as texts or objects).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from service.core.open_connectors.elements import SECRET_ENTRIES, element_of, is_secret
from service.errors import ConnectorUnreadable
from service.model import Media


@dataclass(frozen=True, slots=True)
class InstanceAnswer:
    """An instance as the platform describes it.

    token: "" where it was left out or masked, or could not stand in a header.
    element: key of its connector, "" if it is not told.
    configuration: as it reads, secrets masked; empty if it is not told.
    """

    id: str
    token: str = field(repr=False)
    name: str
    tags: tuple[str, ...]
    disabled: bool
    element: str = ""
    configuration: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A row of the message log.

    direction: "inbound" or "outbound-...". date_sent: aware; None when absent or unreadable.
    has_body: it told a text, were it an empty one. other_id: its `id` where that is not its sid.
    """

    sid: str
    from_: str
    to: str
    body: str = field(repr=False)
    direction: str
    status: str
    date_sent: datetime | None
    num_media: int
    has_body: bool = True
    other_id: str = ""


def authorization(user: str, organization: str, instance_token: str | None = None) -> str:
    """Build the Authorization header: for the platform, or with a token for an instance."""
    header = f"User {user}, Organization {organization}"
    return header if instance_token is None else f"{header}, Element {instance_token}"


def missing_entries(body: Mapping[str, Any]) -> list[str]:
    """Name what a POST /instances body lacks, each with the setting to set; [] when complete."""
    problems = []
    if not body.get("name"):
        problems.append("name (setting INSTANCE_NAME)")
    if not _object(body.get("element")).get("key"):
        problems.append("element.key, such as twilio")
    configuration = _object(body.get("configuration"))
    samples = {"messaging.sms.twilio.protocol": "sms", "event.notification.enabled": "true"}
    for entry, setting in element_of(body).required.items():
        if not str(configuration.get(entry) or "").strip():
            problems.append(
                f"{entry} (setting {setting})" if setting else f'{entry}, "{samples[entry]}"'
            )
    return problems


def secrets_of(body: Mapping[str, Any]) -> list[str]:
    """Return the secrets in a POST or PUT /instances body."""
    configuration = _object(body.get("configuration"))
    return [str(configuration[entry]) for entry in sorted(SECRET_ENTRIES & configuration.keys())]


def logins_of(body: Mapping[str, Any]) -> list[str]:
    """Return users with passwords that addresses in such a body hold, to keep them out of errors.

    The callback URL has one where Twilio has to log in at a proxy.
    """
    logins = []
    for value in _object(body.get("configuration")).values():
        if found := re.match(r"\w+://(.*)@", str(value), re.DOTALL):
            logins += [found[1], found[1].partition(":")[2]]
    return [login for login in logins if login]


def private_entries(body: Mapping[str, Any]) -> list[str]:
    """Return whatever may be secret in such a body: an operator's own entries, too."""
    configuration = _object(body.get("configuration"))
    own = [str(value) for key, value in configuration.items() if is_secret(key, str(value))]
    return [*secrets_of(body), *logins_of(body), *own]


def clean_callback_url(url: str) -> str:
    """Return a callback URL without the newlines and blanks that copied documentation leaves in it.

    Raises ValueError when what is left is no http or https URL with a host.
    """
    cleaned = "".join(url.split())
    try:
        parts = urlsplit(cleaned)
    except ValueError:  # whose text may quote a password
        raise ValueError("is no URL: its host is malformed") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is no URL that begins with https:// and names a host")
    return cleaned


def read_instance(answer: Any) -> InstanceAnswer | None:
    """Read an instance; None when the answer describes none."""
    if not isinstance(answer, dict) or answer.get("id") is None:
        return None
    token = str(answer.get("token") or "")
    return InstanceAnswer(
        id=str(answer["id"]),
        token=token if _is_token(token) else "",
        name=str(answer.get("name") or ""),
        tags=_read_tags(answer.get("tags")),
        disabled=answer.get("disabled") is True,
        element=str(_object(answer.get("element")).get("key") or ""),
        configuration={
            str(key): _plain(value) for key, value in _object(answer.get("configuration")).items()
        },
    )


def read_configuration(answer: Any) -> dict[str, str]:
    """Read GET /instances/{id}/configuration; what is no entry is passed over."""
    rows = answer if isinstance(answer, list) else ()
    return {
        str(row["key"]): _plain(row.get("propertyValue"))
        for row in rows
        if isinstance(row, dict) and row.get("key")
    }


def read_sid(answer: Any) -> str | None:
    """Read a sent message's sid (`sid`, or `id` of the older hub model); None without one.

    The latter may be a number of the platform's own.
    """
    if not isinstance(answer, dict):
        return None
    return next(filter(None, map(_read_id, (answer.get("sid"), answer.get("id")))), None)


def _read_id(value: Any) -> str:
    """Return an id as a text, "" for what is none: it becomes part of a key."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value) if re.fullmatch(r"[!-~]{1,64}", str(value)) else ""


def read_instances(answer: Any) -> list[InstanceAnswer]:
    """Read the list of instances; what is no instance is passed over."""
    found = map(read_instance, answer if isinstance(answer, list) else ())
    return [instance for instance in found if instance is not None]


def read_log(answer: Any) -> list[LoggedMessage]:
    """Read a page of the message log.

    Raises ConnectorUnreadable for anything else, and for rows that lack what is read of them, as
        those that a common resource maps do: what can't be read must not look like a log in which
        nothing was sent. Fields that are null may be left out of answers, so what Twilio may leave
        null is missed only where no row has it.
    """
    rows = answer.get("messages") if isinstance(answer, dict) else answer
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConnectorUnreadable("the message log was answered with something that is none")
    read = [_read_row(row) for row in rows]
    if lacking := _lacking(read):
        names = ", ".join(f'"{name}"' for name in lacking)
        raise ConnectorUnreadable(f"the message log has rows without {names}: it can't be read")
    return read


def _lacking(rows: Sequence[LoggedMessage]) -> list[str]:
    """Name the fields that rows of the log must have and lack."""
    if not rows:
        return []
    inbound = [row for row in rows if row.direction == "inbound"]
    missed = {
        "sid": not all(row.sid for row in rows),
        # Twilio chooses the sender of a scheduled text later: it may be null until then.
        "from": not all(row.from_ for row in inbound) or not any(row.from_ for row in rows),
        "to": not all(row.to for row in rows),
        "direction": not all(row.direction for row in rows),
        "body": not any(row.has_body or row.num_media for row in rows),
        # What is queued has none yet; what came in has.
        "date_sent": bool(inbound) and not any(row.date_sent for row in rows),
    }
    return [name for name, lacks in missed.items() if lacks]


def read_formulas(answer: Any) -> list[str] | None:
    """Name the formulas in a list of their instances; None when the answer is no list."""
    if not isinstance(answer, list):
        return None
    found = []
    for row in map(_object, answer):
        names = (_object(row.get("formula")).get("name"), row.get("name"))
        told = [str(name) for name in names if name]
        found.append(" / ".join(dict.fromkeys(told)) or f"formula instance {row.get('id', '?')}")
    return found


def read_media(answer: Any) -> tuple[Media, ...]:
    """Read a message's attachments; a path as Twilio's own API gives it becomes a whole URL."""
    rows = answer.get("media_list") if isinstance(answer, dict) else answer
    found = []
    for row in rows if isinstance(rows, list) else ():
        uri = str(_object(row).get("uri") or "")
        if uri.startswith("/"):
            uri = f"https://api.twilio.com{uri.removesuffix('.json')}"
        if uri:
            found.append(Media(uri, str(row.get("content_type") or "")))
    return tuple(found)


def _read_row(row: Mapping[str, Any]) -> LoggedMessage:
    def text(*names: str) -> str:
        return next((str(row[name]) for name in names if row.get(name) is not None), "")

    sid, other = text("sid"), text("id")
    return LoggedMessage(
        sid=sid or other,
        from_=text("from", "From"),
        to=text("to", "To"),
        body=text("body", "Body", "message"),
        direction=text("direction", "Direction"),
        status=text("status", "Status"),
        date_sent=read_date(text("date_sent", "DateSent", "sentTime")),
        num_media=_read_count(text("num_media", "NumMedia")),
        other_id=other if other not in {sid, ""} and sid else "",
        has_body=any(row.get(name) is not None for name in ("body", "Body", "message")),
    )


def _is_token(text: str) -> bool:
    return re.fullmatch(r"[!-~]+", text) is not None and set(text) != {"*"}


def _read_count(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


@lru_cache(maxsize=64)  # The answers of one second all show the same.
def read_date(text: str) -> datetime | None:
    """Read RFC 2822, as Twilio writes it, or ISO 8601; without a zone it is UTC.

    Returns None for anything else.
    """
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = parse(text)
        except (ValueError, OverflowError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _read_tags(tags: Any) -> tuple[str, ...]:
    found: Sequence[Any] = tags if isinstance(tags, list) else ()
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in found)
    return tuple(str(name) for name in names if name)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> str:
    """Return an entry's value as it was written: the platform may answer `true` for "true"."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
