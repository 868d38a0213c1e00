"""The door's side of the inbox: accept a verified message once, in its conversation's partition."""

from __future__ import annotations

import asyncio

from service.core import entries
from service.core.partitions import partition_of
from service.errors import StoreFull, StoreUnavailable
from service.model import Message, Partition
from service.store.batch import Batch
from service.store.keys import PartitionKeys
from service.store.scripts import ACCEPT


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

    async def accept(self, message: Message) -> bool:
        """Remember the message and append it to its inbox, in one step.

        Returns True when it is new, False when its sid was accepted before (nothing changes).
        Raises StoreFull at the partition's bound, StoreUnavailable when Redis has not confirmed;
            the message may then be there all the same, and Twilio's retry is a duplicate.
        """
        if self._opened is not None and not self._opened.is_set():
            raise StoreUnavailable("Redis has not been reached since the start")
        keys = self._keys[partition_of(message.conversation, len(self._keys))]
        answer = await self._batch.run(
            ACCEPT,
            (keys.inbox, keys.seen(message.sid)),
            (self._window_s, self._limit, entries.VERSION, entries.encode(message)),
        )
        if answer == b"full":
            raise StoreFull(f"{keys.inbox} holds {self._limit} messages, the most allowed")
        return bool(answer != b"dup")
