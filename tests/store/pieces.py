"""What the store's tests share: one process's view of the store, and messages to put into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.model import Conversation, Message, MessageSid, Outbound, Partition, Reply
from service.store.batch import Batch
from service.store.client import Redis
from service.store.inbox import Inbox
from service.store.leases import Leases
from service.store.partition import PartitionStore

PARTITIONS = 4
LEASE_MS = 5_000


@dataclass
class Store:
    """One process's view of the store."""

    client: Any  # a Redis; its answers are bytes, which redis-py's types leave open
    batch: Batch
    inbox: Inbox

    def leases(self, owner: str, ttl_ms: int = LEASE_MS) -> Leases:
        return Leases(self.client, self.batch, owner=owner, ttl_ms=ttl_ms)

    async def own(self, partition: int, owner: str = "worker") -> PartitionStore:
        token = await self.leases(owner).acquire(Partition(partition))
        assert token is not None
        return PartitionStore(
            self.client, self.batch, Partition(partition), token, sent_window_s=60
        )


async def configure(client: Redis, name: str, value: str) -> None:
    """Set an option of the server, or of every one of a Cluster's."""
    for execute in await client.each_server():
        await execute("CONFIG SET", name, value)


def message(sid: str = "SM1", theirs: str = "+15005550123", body: str = "hello") -> Message:
    """Make an inbound text."""
    return Message(
        sid=MessageSid(sid),
        from_=theirs,
        to="+15005550100",
        body=body,
        media=(),
        account="AC1",
        received_at=datetime(2026, 5, 4, 12, 0, tzinfo=UTC),
        raw={"MessageSid": sid, "From": theirs, "To": "+15005550100", "Body": body},
    )


def outbound(of: Message, index: int = 0, body: str = "hi") -> Outbound:
    """Make a reply to it."""
    return Outbound(Conversation(of.to, of.from_), Reply(body), of.sid, index)
