"""Which partition a conversation belongs to. Pure; the store and the workers ask here alone."""

from __future__ import annotations

from zlib import crc32

from service.model import Conversation, Partition


def partition_of(conversation: Conversation, count: int) -> Partition:
    """Hash a conversation to its partition.

    count: partitions of the deployment, recorded in Redis; it never changes for a given Redis.
    Returns 0 <= partition < count, the same in every process, version and machine: CRC-32 of both
        addresses in UTF-8, a NUL between them so that ("ab", "c") and ("a", "bc") differ.
    """
    return Partition(crc32(f"{conversation.ours}\0{conversation.theirs}".encode()) % count)
