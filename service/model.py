"""The value types every layer shares: messages, replies and the ids that must not be swapped.

Built once at the door (`core.callback`) or from Redis (`core.entries`), trusted everywhere else.
Nothing here does I/O or knows a wire format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, NewType

MessageSid = NewType("MessageSid", str)
"""Twilio's id of one SMS or MMS ("SM..." or "MM..."); the de-duplication key of promise 2."""

Partition = NewType("Partition", int)
"""Number of a shard of conversations, 0 up to the deployment's partition count."""

EntryId = NewType("EntryId", str)
"""Id of an entry in an inbox or outbox stream, as Redis made it ("1700000000000-0")."""


class Conversation(NamedTuple):
    """The unit of ordering: our number and theirs, exactly as Twilio wrote them."""

    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Media:
    """One attachment of an inbound MMS: where Twilio keeps it, and its MIME type."""

    url: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Message:
    """One inbound SMS or MMS.

    sid: Twilio's MessageSid.
    from_, to: their address and ours, opaque and never corrected: E.164 numbers, short codes,
        alphanumeric senders or channel addresses ("whatsapp:+1...").
    body: the text; "" for a picture alone.
    media: the attachments, in Twilio's order.
    account: the AccountSid that received it.
    received_at: when our door (or the connector's log) saw it; timezone-aware, UTC.
    raw: every parameter of the callback by name, the last value of a repeated name.
    recovered: no callback announced it; it was read back from the connector's message log.
    """

    sid: MessageSid
    from_: str
    to: str
    body: str
    media: tuple[Media, ...]
    account: str
    received_at: datetime
    raw: Mapping[str, str] = field(repr=False)
    recovered: bool = False

    @property
    def conversation(self) -> Conversation:
        """The conversation this message belongs to."""
        return Conversation(ours=self.to, theirs=self.from_)


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """What became of one of our replies after the connector had taken it.

    sid: Twilio's MessageSid of the reply; with `status` the key it is de-duplicated by.
    status: queued, sending, sent, delivered, undelivered, failed or read; they come in any order.
    error_code: Twilio's, "" without one. from_, to: our address and theirs.
    """

    sid: MessageSid
    status: str
    error_code: str
    from_: str
    to: str

    @property
    def conversation(self) -> Conversation:
        """The conversation the reply belongs to."""
        return Conversation(ours=self.from_, theirs=self.to)


@dataclass(frozen=True, slots=True)
class Reply:
    """One outbound SMS or MMS, as a handler returns it.

    body: the text; may be "" only when there is media.
    media: public URLs of attachments, at most ten.
    Raises ValueError when there is neither text nor media, more than ten attachments, or a text
        instead of a tuple of them.
    """

    body: str = ""
    media: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given: object = self.media
        if isinstance(given, str):
            raise ValueError(  # noqa: TRY004  (the one error that is promised)
                'media is one text; write a tuple of URLs: media=("https://...",)'
            )
        if not self.body and not self.media:
            raise ValueError("a Reply needs a body or at least one media URL")
        if len(self.media) > MEDIA_LIMIT:
            raise ValueError(f"a Reply takes at most {MEDIA_LIMIT} media URLs")


MEDIA_LIMIT = 10
"""Attachments of one outbound MMS, the most Twilio accepts."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """A reply on its way: what to send, from which of our numbers, to whom.

    reply_to: MessageSid of the message it answers; index: its place among that message's replies.
    Together they name the reply for ever, in logs, dead letters and the outbox.
    """

    conversation: Conversation
    reply: Reply
    reply_to: MessageSid
    index: int


@dataclass(frozen=True, slots=True)
class Instance:
    """Our provisioned connector instance, as the store keeps it.

    id: the connector's number for it. token: the instance token, in the clear only in memory.
    name, tags: as asked for. callback_url: what was registered for inbound texts, without the user
        and password it may have.
    fingerprint: keyed digest of the wanted configuration, secrets included, so that a change
        of any of them is noticed without keeping them.
    """

    id: str
    token: str = field(repr=False)
    name: str
    tags: tuple[str, ...]
    callback_url: str
    fingerprint: str
