"""Model values as the bytes that streams and dead letters hold, and back again. Versioned.

The only place that knows the stored form. An entry has the fields `v` (version), `k` (kind) and
`d` (JSON). A newer Parley reads every version listed in `READABLE`; an entry of a version it does
not know raises `EntryUnreadable`, and the caller keeps the bytes.

Kinds: `m` an inbound message; `r` a reply (in an outbox, or in an inbox when a dead reply is
replayed: it takes its conversation's turn and is settled like a handled message).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from service.model import Conversation, Media, Message, MessageSid, Outbound, Reply

VERSION = b"1"
READABLE = frozenset({VERSION})
"""Versions this code reads: its own and every older one."""

MESSAGE = b"m"
REPLY = b"r"


class EntryUnreadable(ValueError):
    """Stored bytes that this version can't read: written by a newer one, or damaged."""


class _StoredMedia(msgspec.Struct, array_like=True, frozen=True):
    url: str
    content_type: str


class _StoredMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    sid: str
    from_: str = msgspec.field(name="from")
    to: str
    account: str
    at: datetime
    raw: dict[str, str]
    body: str = ""
    media: tuple[_StoredMedia, ...] = ()
    recovered: bool = False


class _StoredReply(msgspec.Struct, frozen=True, omit_defaults=True):
    from_: str = msgspec.field(name="from")
    to: str
    reply_to: str
    index: int
    body: str = ""
    media: tuple[str, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(_StoredMessage).decode
_decode_reply = msgspec.json.Decoder(_StoredReply).decode


def encode(value: Message | Outbound) -> bytes:
    """Return the `d` field for a message or a reply."""
    if isinstance(value, Message):
        return _encode(
            _StoredMessage(
                sid=value.sid,
                from_=value.from_,
                to=value.to,
                account=value.account,
                at=value.received_at,
                raw=value.raw if isinstance(value.raw, dict) else dict(value.raw),
                body=value.body,
                media=tuple(_StoredMedia(m.url, m.content_type) for m in value.media),
                recovered=value.recovered,
            )
        )
    return _encode(
        _StoredReply(
            from_=value.conversation.ours,
            to=value.conversation.theirs,
            reply_to=value.reply_to,
            index=value.index,
            body=value.reply.body,
            media=value.reply.media,
        )
    )


def decode(fields: Mapping[bytes, bytes]) -> Message | Outbound:
    """Read an entry's fields.

    fields: `v`, `k` and `d` as stored.
    Raises EntryUnreadable when the version is newer, the kind unknown or the JSON damaged.
    """
    version = fields.get(b"v")
    if version not in READABLE:
        raise EntryUnreadable(
            f"written in format {version!r}, this Parley reads {sorted(READABLE)}: "
            "a newer Parley wrote it; upgrade this one and replay it"
        )
    kind, data = fields.get(b"k"), fields.get(b"d", b"")
    try:
        if kind == MESSAGE:
            return _message(_decode_message(data))
        if kind == REPLY:
            return _outbound(_decode_reply(data))
    except (msgspec.DecodeError, ValueError) as error:
        raise EntryUnreadable(f"damaged entry: {error}") from error
    raise EntryUnreadable(f"unknown kind {kind!r}")


def _message(stored: _StoredMessage) -> Message:
    return Message(
        sid=MessageSid(stored.sid),
        from_=stored.from_,
        to=stored.to,
        body=stored.body,
        media=tuple(Media(m.url, m.content_type) for m in stored.media),
        account=stored.account,
        received_at=stored.at,
        raw=stored.raw,
        recovered=stored.recovered,
    )


def _outbound(stored: _StoredReply) -> Outbound:
    return Outbound(
        conversation=Conversation(ours=stored.from_, theirs=stored.to),
        reply=Reply(stored.body, stored.media),
        reply_to=MessageSid(stored.reply_to),
        index=stored.index,
    )
