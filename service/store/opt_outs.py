"""Who has opted out of which of our numbers, as far as texts, refusals and reports told.

Kept beside the inbox of their conversation, so that the scripts which handle a text or take a
report read and write it in the same step.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.model import Conversation, Partition
from service.store.failures import translated
from service.store.keys import PartitionKeys
from service.store.stored import moment

if TYPE_CHECKING:
    from service.store.client import Redis


@dataclass(frozen=True, slots=True)
class OptOut:
    """One person who does not want texts from one of our numbers, since `at` (UTC)."""

    conversation: Conversation
    at: datetime


def field_of(conversation: Conversation) -> str:
    """Name the two of them in the hash: our number, a blank, theirs."""
    return f"{conversation.ours} {conversation.theirs}"


async def list_opt_outs(client: Redis, partitions: int) -> list[OptOut]:
    """Return all of them, the oldest first. Raises StoreUnavailable."""
    found = []
    for partition in range(partitions):
        hashes: Any = client
        with translated():
            noted = await hashes.hgetall(PartitionKeys(Partition(partition)).optouts)
        for pair, at_ms in noted.items():
            ours, _, theirs = pair.decode(errors="replace").partition(" ")
            found.append(OptOut(Conversation(ours, theirs), moment(at_ms)))
    return sorted(found, key=lambda each: each.at)
