"""The door's side of the store: take a verified message, or report on a reply, once.

A message is appended to its conversation's inbox. A report (delivered, failed) is remembered by its
sid and status together: the sid alone would swallow all but the first. One that says the person has
opted out puts them on the list in the same step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from service.core import entries
from service.core.partitions import partition_of
from service.core.twilio.opt_out import is_reported
from service.errors import StoreError, StoreFull, StoreUnavailable
from service.model import Conversation, DeliveryStatus, Message, MessageSid, Partition
from service.store.batch import Batch
from service.store.keys import PartitionKeys
from service.store.opt_outs import field_of
from service.store.scripts import ACCEPT, SEEN, STATUS

Accepted = Callable[[bool, StoreError | None], None]
"""Told how an acceptance ended: whether the message is new, or the error. Must not raise."""


class Inbox:
    """Accepts messages.

    partitions: the deployment's partition count.
    window_s: how long a MessageSid is remembered, seconds.
    limit: most unsettled messages one partition holds.
    opened: set once this Redis is known to be laid out with as many partitions; until then
        nothing is accepted, as it could land where nobody looks. None: it is known.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        partitions: int,
        window_s: int,
        limit: int,
        opened: asyncio.Event | None = None,
    ) -> None:
        self._batch = batch
        self._opened = opened
        self._keys = [PartitionKeys(Partition(p)) for p in range(partitions)]
        self._window_s = window_s
        self._limit = limit

    async def accept(self, arrival: Message | DeliveryStatus) -> bool:
        """Remember a message and append it to its inbox, in one step; or remember a report.

        Returns True when it is new, False when it was accepted before (nothing changes).
        Raises StoreFull at the partition's bound, StoreUnavailable when Redis has not confirmed;
            the message may then be there all the same, and Twilio's retry is a duplicate.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.offer(arrival, partial(_resolve, answer))
        return await answer

    async def had(self, texts: Sequence[tuple[Conversation, MessageSid]]) -> list[bool]:
        """Tell of each text, by conversation and sid, whether it was accepted. Changes nothing.

        Raises StoreUnavailable.
        """
        asked = (self._seen(*text) for text in texts)
        return [answer == 1 for answer in await asyncio.gather(*asked)]

    def _seen(self, conversation: Conversation, sid: MessageSid) -> Awaitable[Any]:
        keys = self._keys[partition_of(conversation, len(self._keys))]
        return self._batch.run(SEEN, (keys.seen(sid),), ())

    def offer(self, arrival: Message | DeliveryStatus, done: Accepted) -> None:
        """Accept, as `accept` does, and tell `done` instead of somebody waiting.

        done: called once, later. Raises StoreUnavailable, then without a call of `done`.
        """
        if self._opened is not None and not self._opened.is_set():
            raise StoreUnavailable("Redis has not been reached since the start")
        keys = self._keys[partition_of(arrival.conversation, len(self._keys))]
        if isinstance(arrival, Message):
            self._batch.submit(
                ACCEPT,
                (keys.inbox, keys.seen(arrival.sid)),
                (self._window_s, self._limit, entries.VERSION, entries.encode(arrival)),
                partial(self._read, keys.inbox, done),
            )
        else:
            taken: tuple[str, ...] = (keys.status(arrival.sid, arrival.status),)
            args: tuple[str | int, ...] = (self._window_s,)
            if is_reported(arrival):
                taken += (keys.optouts, keys.optout(arrival.sid))
                args += (field_of(arrival.conversation),)
            self._batch.submit(STATUS, taken, args, partial(_read_status, done))

    def _read(self, inbox: str, done: Accepted, answer: Any, error: StoreError | None) -> None:
        if answer == b"full":
            error = StoreFull(f"{inbox} holds {self._limit} messages, the most allowed")
        done(error is None and answer != b"dup", error)


def _read_status(done: Accepted, answer: Any, error: StoreError | None) -> None:
    done(error is None and answer == 1, error)


def _resolve(answer: asyncio.Future[bool], new: bool, error: StoreError | None) -> None:  # noqa: FBT001
    if answer.done():
        return
    if error is None:
        answer.set_result(new)
    else:
        answer.set_exception(error)
