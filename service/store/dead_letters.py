"""Dead letters: what could not be handled or sent, kept until somebody replays or drops it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from service.core import entries
from service.core.twilio.error_codes import Meaning, explain
from service.errors import StoreFull
from service.model import Message, Outbound, Partition
from service.store.batch import Batch
from service.store.failures import translated
from service.store.keys import PartitionKeys
from service.store.scripts import REPLAY
from service.store.stored import moment, whole_number

if TYPE_CHECKING:
    from service.store.client import Redis

READ_PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message or reply that used up its attempts.

    id: "<partition>-<stream id>", what the commands take. kind: which of the two.
    value: the message or reply, or None when it can't be read (`error` says why).
    tries: attempts made. at: when it was given up; aware. route: of a message, "" if none matched.
    traceback: of the handler that failed last, "" where none raised.
    """

    id: str
    kind: Literal["message", "reply"]
    value: Message | Outbound | None
    error: str
    tries: int
    at: datetime
    route: str
    traceback: str = ""

    @property
    def theirs(self) -> str:
        """The other side's number, "" when the entry can't be read."""
        return self.value.conversation.theirs if self.value else ""

    @property
    def code(self) -> int | None:
        """Twilio's own code for it, None without one."""
        found = explain(self.error)
        return found[0] if found else None

    @property
    def means(self) -> str:
        """What that code means, "" where it is not known."""
        meaning = self._meaning
        return meaning.means if meaning else ""

    @property
    def advice(self) -> str:
        """What to do about it, "" where that is not known."""
        meaning = self._meaning
        return meaning.advice if meaning else ""

    @property
    def _meaning(self) -> Meaning | None:
        found = explain(self.error)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; everything given has to match.

    number: theirs or ours, as written. route: exact. error: a part of it, without regard to case.
    before: given up earlier than this; aware.
    """

    number: str | None = None
    route: str | None = None
    error: str | None = None
    before: datetime | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a dead letter is meant."""
        ends = letter.value.conversation if letter.value else ()
        return (
            (self.number is None or self.number in ends)
            and (self.route is None or self.route == letter.route)
            and (self.error is None or self.error.lower() in letter.error.lower())
            and (self.before is None or letter.at < self.before)
        )


class DeadLetters:
    """All dead letters of a deployment.

    partitions: its partition count. inbox_limit: most messages an inbox holds.
    Every method raises StoreUnavailable.
    """

    def __init__(self, client: Redis, batch: Batch, *, partitions: int, inbox_limit: int) -> None:
        self._client = client
        self._batch = batch
        self._keys = [PartitionKeys(Partition(p)) for p in range(partitions)]
        self._inbox_limit = inbox_limit

    async def find(self, wanted: Filter) -> AsyncIterator[DeadLetter]:
        """Yield what matches, partition by partition, each in the order given up.

        That is conversation order: nothing overtakes a message or reply that is still tried.
        """
        for partition, keys in enumerate(self._keys):
            start = "-"
            while True:
                with translated():
                    page = await self._client.xrange(keys.dead, start, "+", READ_PAGE)
                if not page:
                    break
                for raw_id, fields in page:
                    letter = _read(f"{partition}-{raw_id.decode()}", fields)
                    if wanted.matches(letter):
                        yield letter
                start = f"({page[-1][0].decode()}"

    async def count(self) -> int:
        """Count all of them."""
        pipeline = self._client.pipeline(transaction=False)
        for keys in self._keys:
            pipeline.xlen(keys.dead)
        with translated():
            return sum(await pipeline.execute())

    async def get(self, id_: str) -> DeadLetter | None:
        """Return one, None when there is none of this id."""
        place = self._place(id_)
        if place is None:
            return None
        keys, raw_id = place
        with translated():
            found = await self._client.xrange(keys.dead, raw_id, raw_id)
        return _read(id_, found[0][1]) if found else None

    async def replay(self, id_: str) -> bool:
        """Put one back into its inbox; False when there is none of this id.

        Raises StoreFull when its partition's inbox is full.
        """
        place = self._place(id_)
        if place is None:
            return False
        keys, raw_id = place
        answer = await self._batch.run(REPLAY, (keys.dead, keys.inbox), (raw_id, self._inbox_limit))
        if answer == b"full":
            raise StoreFull(f"{keys.inbox} holds {self._inbox_limit} messages, the most allowed")
        return bool(answer != b"gone")

    async def drop(self, id_: str) -> bool:
        """Delete one for good; False when there is none of this id."""
        place = self._place(id_)
        if place is None:
            return False
        keys, raw_id = place
        with translated():
            return bool(await self._client.xdel(keys.dead, raw_id))

    def _place(self, id_: str) -> tuple[PartitionKeys, str] | None:
        """Find a dead letter's partition and stream id; None for what is no id."""
        partition, _, raw_id = id_.partition("-")
        parts = raw_id.split("-")
        numbers = [partition, *parts]
        if len(parts) != 2 or not all(each.isascii() and each.isdigit() for each in numbers):
            return None
        if int(partition) >= len(self._keys):
            return None
        return self._keys[int(partition)], raw_id


def _read(id_: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    try:
        value = entries.decode(fields)
    except entries.EntryUnreadable:
        value = None
    error, _, trace = fields.get(b"error", b"").decode(errors="replace").partition("\n")
    return DeadLetter(
        id=id_,
        kind="message" if fields.get(b"k") == entries.MESSAGE else "reply",
        value=value,
        error=error,
        tries=whole_number(fields.get(b"tries", b"0")),
        at=moment(fields.get(b"at", b"0")),
        route=fields.get(b"route", b"").decode(errors="replace"),
        traceback=trace,
    )
