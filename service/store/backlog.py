"""What is found in a partition: its entries, and what was noted of them.

Values, and how they are read from what Redis returns. Times are turned from Redis's clock into
time.monotonic. The commands that fetch and commit are in `partition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.core import entries
from service.model import EntryId, Message, Outbound


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an inbox or outbox.

    value: what it holds, or the reason why it can't be read.
    """

    id: EntryId
    value: Message | Outbound | entries.EntryUnreadable


@dataclass(frozen=True, slots=True)
class Later:
    """A failed attempt's note: not before `due` (time.monotonic), and why it failed."""

    due: float
    error: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A POST that may be in the connector's log and that no sid of Twilio's names.

    marked: time.monotonic, as Redis has it: in the far future where its clock was put back.
    connector_id: what its reply was recorded as sent under; "" while that is in doubt.
    """

    entry: EntryId
    marked: float
    connector_id: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a new owner has to know before it reads the inbox from its start.

    noted_to: the last inbox entry that may have notes, None when none has any.
    outbox: replies not sent, oldest first. outbox_later: when the next POST is due.
    marked: when POSTs were begun whose outcome was never recorded (in doubt), time.monotonic.
    Both kinds of times are as Redis has them: in the far future where its clock was put back.
    """

    noted_to: EntryId | None
    outbox: Sequence[Entry]
    outbox_later: Mapping[EntryId, Later]
    marked: Mapping[EntryId, float]


def may_have_notes(entry: EntryId, noted_to: EntryId | None) -> bool:
    """Whether this inbox entry, or one behind it, may have notes. noted_to: the backlog's."""
    return noted_to is not None and _order(entry) <= _order(noted_to)


def read_entries(raw: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Entry]:
    """Decode stream entries as redis-py returns them."""
    return [Entry(EntryId(id_.decode()), decode(fields)) for id_, fields in raw]


def decode(
    fields: Mapping[bytes, bytes],
) -> Message | Outbound | entries.EntryUnreadable:
    """Decode one entry's fields, or return why they can't be read."""
    try:
        return entries.decode(fields)
    except entries.EntryUnreadable as error:
        return error


def _order(entry: EntryId) -> tuple[int, int]:
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq)


def present(keys: Sequence[bytes], values: Sequence[bytes | None]) -> dict[bytes, bytes]:
    """Pair keys with the values that are there."""
    return {key: value for key, value in zip(keys, values, strict=True) if value is not None}


def numbers(raw: Mapping[bytes, bytes]) -> dict[EntryId, int]:
    """Read numbers kept by entry."""
    return {EntryId(key.decode()): int(value) for key, value in raw.items()}


def read_unlisted(member: str, began_s: float) -> Unlisted:
    """Read a member of `unlisted`. began_s: when Redis's clock showed the epoch."""
    entry, mark, connector_id = member.split(" ", 2)
    return Unlisted(EntryId(entry), began_s + int(mark) / 1000, connector_id)


def laters(raw: Mapping[bytes, bytes], began_s: float) -> dict[EntryId, Later]:
    """Read notes of failed attempts. began_s: when Redis's clock showed the epoch."""
    found = {}
    for key, value in raw.items():
        next_ms, _, error = value.decode(errors="replace").partition(" ")
        found[EntryId(key.decode())] = Later(began_s + int(next_ms) / 1000, error)
    return found
