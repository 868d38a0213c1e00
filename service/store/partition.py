"""The owner's side of one partition: everything a lease holder reads and commits.

Every commit names the lease token; when the lease has gone to somebody else it raises LeaseLost
and has changed nothing. After StoreUnavailable a commit may or may not have happened: read the
partition again from its start rather than guess.

Whatever is kept with a time is timed by Redis's own clock: the processes' may be hours apart. Here
it is turned into times of this process's clock that nobody sets (time.monotonic).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.core import entries
from service.core.delivery import fingerprint, is_listed
from service.errors import LeaseLost, StoreError
from service.model import Conversation, EntryId, Outbound, Partition
from service.store.backlog import (
    Backlog,
    Entry,
    Later,
    Unlisted,
    decode,
    laters,
    numbers,
    present,
    read_entries,
    read_unlisted,
)
from service.store.batch import Batch
from service.store.failures import translated
from service.store.keys import PartitionKeys
from service.store.opt_outs import field_of
from service.store.scripts import (
    ABANDON,
    BEGIN,
    BURY,
    CLOCK,
    FETCH,
    MARK,
    OPT_OUT,
    RESCHEDULE,
    RESTART,
    SENT,
    SETTLE,
    Script,
)

if TYPE_CHECKING:
    from service.store.client import Redis

READ_PAGE = 500
"""Entries fetched per XRANGE when a partition is read from its start."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt at handling that was counted.

    number: from 1. opted_out: the sender is on the list of opt-outs; False where nobody asked.
    """

    number: int
    opted_out: bool = False


class PartitionStore:
    """One partition under one lease.

    token: the lease token from `leases`, which `restart` narrows down.
    sent_window_s: how long connector sids are remembered, and POSTs that none names.
    """

    def __init__(
        self, client: Redis, batch: Batch, partition: Partition, token: str, *, sent_window_s: int
    ) -> None:
        self.partition = partition
        self.token = token
        self._commit_token = token
        self._client = client
        self._batch = batch
        self._sent_window_s = sent_window_s
        self._keys = PartitionKeys(partition)

    async def restart(self, number: int) -> None:
        """Refuse whatever was sent to Redis before this and has not been carried out yet.

        number: of this restart, from 1, greater than any before under this lease.
        """
        answer = await self._batch.run(RESTART, (self._keys.lease,), (self.token, number))
        self._check(answer)
        self._commit_token = answer.decode()

    async def backlog(self) -> Backlog:
        """Read what earlier owners left: the outbox with its notes, which are bounded.

        An inbox may have as many notes as messages: `notes` reads them page by page.
        Raises StoreUnavailable.
        """
        keys = self._keys
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hgetall(keys.outbox_later)
            pipeline.hgetall(keys.outbox_marked)
            pipeline.hlen(keys.inbox_later)
            pipeline.hlen(keys.inbox_tries)
            pipeline.xrevrange(keys.inbox, count=1)
            outbox_later, marked, put_off, begun, newest = await pipeline.execute()
            outbox = await self._read_all(keys.outbox)
        noted = newest if put_off or begun else []
        began_s = await self._clock_began()
        return Backlog(
            noted_to=next((EntryId(id_.decode()) for id_, _ in noted), None),
            outbox=outbox,
            outbox_later=laters(outbox_later, began_s),
            marked={entry: began_s + ms / 1000 for entry, ms in numbers(marked).items()},
        )

    async def notes(
        self, inbox_entries: Sequence[EntryId]
    ) -> tuple[Mapping[EntryId, Later], Mapping[EntryId, int]]:
        """Read what is noted of these messages, at least one.

        Returns when the next attempt is due of those put off; and how many attempts were begun.
        Raises StoreUnavailable.
        """
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            fields: list[str] = [*inbox_entries]
            pipeline.hmget(self._keys.inbox_later, fields)
            pipeline.hmget(self._keys.inbox_tries, fields)
            later, tries = await pipeline.execute()
        ids = [entry.encode() for entry in inbox_entries]
        noted = present(ids, later)
        began_s = await self._clock_began() if noted else 0.0
        return laters(noted, began_s), numbers(present(ids, tries))

    async def fetch(self, entry: EntryId) -> Entry | None:
        """Read one inbox entry again; None when it is not there any more."""
        found = await self._batch.run(FETCH, (self._keys.inbox,), (entry,))
        if not found:
            return None
        flat = found[0][1]
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return Entry(entry, decode(fields))

    async def begin(self, entry: EntryId, asked: Conversation | None = None) -> Begun | None:
        """Count an attempt at handling; None if the message is settled.

        asked: whether they are opted out of our number is told with it, at no further round trip.
        Cancelled meanwhile, it takes the attempt back: nobody has begun anything.
        """
        keys = self._keys
        counted: tuple[str, ...] = (keys.lease, keys.inbox, keys.inbox_tries)
        args: tuple[str, ...] = (entry,)
        if asked is not None:
            counted += (keys.optouts,)
            args += (field_of(asked),)
        token = (self._commit_token,)

        async def take_back(answer: object) -> None:
            if isinstance(answer, int):
                await self.abandon(entry)

        answer = await self._batch.run_through(BEGIN, counted, token + args, take_back)
        self._check(answer)
        return None if answer == b"gone" else Begun(abs(answer), opted_out=answer < 0)

    async def abandon(self, entry: EntryId) -> None:
        """Take back an attempt that we cut short ourselves."""
        keys = self._keys
        await self._commit(ABANDON, (keys.lease, keys.inbox_tries), (entry,))

    async def settle(
        self,
        entry: EntryId,
        replies: Sequence[Outbound],
        *,
        mark: bool,
        opted_in: Conversation | None = None,
    ) -> list[EntryId] | None:
        """Commit a handled message: its replies in, itself out.

        mark: marks the first reply as being POSTed now; else all of them wait.
        opted_in: they take texts from our number again, and are off the list in the same step.
        Returns the replies' outbox ids, in order; None when it had been settled already.
        """
        keys = self._keys
        touched: tuple[str, ...] = (
            keys.lease,
            keys.inbox,
            keys.inbox_tries,
            keys.inbox_later,
            keys.outbox,
            keys.outbox_tries,
            keys.outbox_marked,
        )
        if opted_in is not None:
            touched += (keys.optouts,)
        answer = await self._commit(
            SETTLE,
            touched,
            (
                entry,
                entries.VERSION,
                "mark" if mark else "",
                "" if opted_in is None else field_of(opted_in),
                *map(entries.encode, replies),
            ),
        )
        return None if answer == b"gone" else [EntryId(id_.decode()) for id_ in answer]

    async def mark(self, entry: EntryId, in_doubt: Outbound | None = None) -> int:
        """Mark a reply as being POSTed now; returns the POST's number, from 1.

        in_doubt: the reply, where its last POST stays in doubt, which is kept by its words.
        Raises StoreError when it is not in the outbox any more: it must not be POSTed.
        """
        keys = self._keys
        touched: tuple[str, ...] = (keys.lease, keys.outbox, keys.outbox_tries, keys.outbox_marked)
        args: tuple[str | int, ...] = (entry,)
        if in_doubt is not None:
            touched += (keys.unlisted(fingerprint(in_doubt)),)
            args += (self._sent_window_s,)
        answer = await self._commit(MARK, touched, args)
        if answer == b"gone":
            raise StoreError(f"reply {entry} is not in {keys.outbox} any more")
        return int(answer)

    async def sent(self, entry: EntryId, outbound: Outbound, connector_sid: str) -> bool:
        """Record a reply as sent; False when it had been recorded already.

        A connector sid that the message log may not show is kept by the reply's words as well.
        """
        keys = self._keys
        listed = is_listed(connector_sid)
        words = () if listed else (keys.unlisted(fingerprint(outbound)),)
        answer = await self._commit(
            SENT,
            (
                keys.lease,
                keys.outbox,
                keys.outbox_tries,
                keys.outbox_later,
                keys.outbox_marked,
                keys.sent(connector_sid),
                *words,
            ),
            (
                entry,
                f"{outbound.reply_to}/{outbound.index}",
                self._sent_window_s,
                *(() if listed else (connector_sid,)),
            ),
        )
        return bool(answer != b"gone")

    async def unlisted(self, outbound: Outbound) -> list[Unlisted]:
        """Return the POSTs of the same words that may be in the log and that no sid names.

        Oldest first, of the last `sent_window_s` at least.
        """
        with translated():
            found = await self._client.zrange(self._keys.unlisted(fingerprint(outbound)), 0, -1)
        if not found:
            return []
        began_s = await self._clock_began()
        return [
            read_unlisted(member.decode(), began_s) for member in found if member.count(b" ") == 2
        ]

    async def known_sids(self, connector_sids: Sequence[str]) -> frozenset[str]:
        """Tell which of these connector sids belong to replies recorded as sent."""
        if not connector_sids:
            return frozenset()
        with translated():
            values = await self._client.mget([self._keys.sent(sid) for sid in connector_sids])
        return frozenset(
            sid for sid, value in zip(connector_sids, values, strict=True) if value is not None
        )

    async def put_off_message(self, entry: EntryId, wait_ms: int, error: str) -> None:
        """Keep that a message's next attempt is due in `wait_ms`, and why."""
        keys = self._keys
        queue = (keys.inbox, keys.inbox_later)
        await self._reschedule(queue, entry, wait_ms, error, in_doubt=False)

    async def put_off_reply(
        self, entry: EntryId, wait_ms: int, error: str, *, in_doubt: bool
    ) -> None:
        """Keep that a reply's next POST is due in `wait_ms`; in_doubt keeps the last one's mark."""
        keys = self._keys
        queue = (keys.outbox, keys.outbox_later, keys.outbox_marked)
        await self._reschedule(queue, entry, wait_ms, error, in_doubt=in_doubt)

    async def bury_message(self, entry: EntryId, error: str, route: str = "") -> bool:
        """Move a message to the dead letters; False when it is not in the inbox any more."""
        keys = self._keys
        queue = (keys.inbox, keys.inbox_tries, keys.inbox_later)
        return await self._bury(queue, entry, error, route)

    async def bury_reply(
        self, entry: EntryId, error: str, in_doubt: Outbound | None = None
    ) -> bool:
        """Move a reply to the dead letters; False when it is not in the outbox any more.

        in_doubt: the reply, where its last POST stays in doubt, which is kept by its words.
        """
        keys = self._keys
        queue: tuple[str, ...] = (
            keys.outbox,
            keys.outbox_tries,
            keys.outbox_later,
            keys.outbox_marked,
        )
        if in_doubt is not None:
            queue += (keys.unlisted(fingerprint(in_doubt)),)
        return await self._bury(queue, entry, error, "")

    async def note_opt_out(self, conversation: Conversation, *, out: bool) -> None:
        """Note that they opted out of our number now, or that they are in again."""
        keys = self._keys
        await self._commit(
            OPT_OUT,
            (keys.lease, keys.optouts),
            (field_of(conversation), "out" if out else "in"),
        )

    async def _reschedule(
        self, queue: tuple[str, ...], entry: EntryId, wait_ms: int, error: str, *, in_doubt: bool
    ) -> None:
        await self._commit(
            RESCHEDULE,
            (self._keys.lease, *queue),
            (entry, wait_ms, error, "keep" if in_doubt else ""),
        )

    async def _bury(self, queue: tuple[str, ...], entry: EntryId, error: str, route: str) -> bool:
        keys = self._keys
        answer = await self._commit(
            BURY,
            (keys.lease, keys.dead, *queue),
            (entry, error, route, self._sent_window_s),
        )
        return bool(answer != b"gone")

    async def _clock_began(self) -> float:
        """Return when Redis's clock showed the epoch, by time.monotonic: late by a round trip."""
        now_ms: int = await self._batch.run(CLOCK, (self._keys.lease,), ())
        return time.monotonic() - now_ms / 1000

    async def _commit(
        self, script: Script, keys: tuple[str, ...], args: tuple[str | bytes | int, ...]
    ) -> Any:
        answer = await self._batch.run(script, keys, (self._commit_token, *args))
        self._check(answer)
        return answer

    def _check(self, answer: object) -> None:
        if answer == b"fenced":
            raise LeaseLost(f"partition {self.partition} has another owner than {self.token}")

    async def _read_all(self, stream: str) -> list[Entry]:
        found: list[Entry] = []
        start = "-"
        while page := await self._client.xrange(stream, start, "+", READ_PAGE):
            found += read_entries(page)
            start = f"({found[-1].id}"
        return found
