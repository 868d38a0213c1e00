"""What an answered 200 is worth: how commits are confirmed, and what this Redis can't promise.

    memory      Redis holds it in memory
    fsync       its append-only file is on disk
    replicated  so many replicas hold it as well

`appendfsync always` syncs before Redis answers, so that nothing has to be asked for. Otherwise
WAITAOF (Redis 7.2) waits for the next sync. WAIT waits for replicas. Both speak of what their own
connection wrote, so they travel behind the commits, in the same pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.errors import StoreMismatch
from service.store.failures import describe, translated

if TYPE_CHECKING:
    from service.store.client import Execute, Redis

Durability = Literal["memory", "fsync", "replicated"]

OLDEST = (6, 2)
"""Oldest Redis that runs the scripts and commands used (XRANGE with exclusive ends)."""

WITH_WAITAOF = (7, 2)

SYNC_TIMEOUT_MS = 3_000
"""Longest wait for WAITAOF: `everysec` syncs once a second, twice that late under load."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A command that waits until commits are safe.

    needed: what it has to return at least, in all its numbers. of: what they count.
    """

    command: tuple[str | int, ...]
    needed: int
    of: str

    def shortfall(self, answer: Any) -> str:
        """Tell what an answer falls short of, "" when it does not."""
        if isinstance(answer, Exception):
            return f"{self.command[0]}: {describe(answer)}"
        count = answer[0] if isinstance(answer, list) else answer
        if count >= self.needed:
            return ""
        return f"confirmed by {count} of {self.needed} {self.of} in time; it is there, unconfirmed"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says about itself; None for what it does not tell.

    of_cluster: whether it is a Cluster's node. min_replicas: min-replicas-to-write.
    replicas: how many are connected.
    """

    version: tuple[int, ...]
    of_cluster: bool
    appendonly: bool
    appendfsync: str | None
    eviction: str | None
    min_replicas: int | None
    replicas: int


@dataclass(frozen=True, slots=True)
class DurabilityVerdict:
    """How commits are confirmed, and a sentence for each thing that can't be kept."""

    confirmations: tuple[Confirmation, ...]
    notes: tuple[str, ...]


async def look(
    client: Redis, wanted: Durability, *, replicas: int, replica_timeout_s: float
) -> DurabilityVerdict:
    """Find out what this Redis can promise.

    replicas, replica_timeout_s: how many must confirm, and in which time, when `replicated`.
    Raises StoreMismatch for a server that can't be used at all, StoreUnavailable.
    """
    with translated():
        asked = [await _ask(execute) for execute in await client.each_server()]
    facts = weakest(asked)
    if facts.version < OLDEST:
        raise StoreMismatch(
            f"this Redis is {'.'.join(map(str, facts.version))}; Parley needs "
            f"{'.'.join(map(str, OLDEST))} or newer (Valkey too)"
        )
    if facts.of_cluster and not client.of_cluster:
        raise StoreMismatch(
            "this Redis is a node of a Cluster; begin REDIS_URL with redis+cluster:// instead"
        )
    return judge(facts, wanted, replicas=replicas, timeout_ms=int(replica_timeout_s * 1000))


def judge(facts: Facts, wanted: Durability, *, replicas: int, timeout_ms: int) -> DurabilityVerdict:
    """Decide how commits are confirmed and what has to be said about it."""
    confirmations: list[Confirmation] = []
    notes: list[str] = []
    if facts.eviction not in {None, "noeviction"}:
        notes.append(
            f"maxmemory-policy is {facts.eviction}: Redis may drop accepted texts when its memory "
            "is short; set maxmemory-policy noeviction"
        )
    if wanted == "replicated":
        confirmations.append(Confirmation(("WAIT", replicas, timeout_ms), replicas, "replicas"))
        if facts.replicas < replicas:
            notes.append(
                f"DURABILITY=replicated: {facts.replicas} replicas are connected, REPLICAS is "
                f"{replicas}; nothing is accepted until they are"
            )
    if wanted != "memory":
        can_wait = facts.appendonly and facts.version >= WITH_WAITAOF
        if can_wait and facts.appendfsync in {None, "everysec"}:
            confirmations.append(
                Confirmation(("WAITAOF", 1, 0, SYNC_TIMEOUT_MS), 1, "syncs to disk")
            )
        notes += filter(None, [_about_disk(facts, wanted, can_wait=can_wait)])
    if wanted == "fsync" and facts.replicas and not facts.min_replicas:
        notes.append(
            "a fail-over to a replica may lose the last accepted texts, as DURABILITY=fsync waits "
            "for the disk alone; set DURABILITY=replicated"
        )
    return DurabilityVerdict(tuple(confirmations), tuple(notes))


def _about_disk(facts: Facts, wanted: Durability, *, can_wait: bool) -> str:
    """Say what the server's own file is not good for, "" when there is nothing to say."""
    if not facts.appendonly:
        return (
            f"DURABILITY={wanted} cannot be kept: appendonly is no, accepted texts are lost when "
            "Redis stops; set appendonly yes and appendfsync always"
            if wanted == "fsync"
            else "appendonly is no: accepted texts are lost if all machines stop at once; set "
            "appendonly yes"
        )
    if facts.appendfsync == "always" or (wanted == "replicated" and not can_wait):
        return ""
    if facts.appendfsync is None:
        how = "WAITAOF is used" if can_wait else "up to a second of accepted texts may be lost"
        return (
            f"whether DURABILITY={wanted} is kept can't be checked: this Redis does not tell its "
            f"appendfsync (CONFIG is forbidden); {how}"
        )
    if facts.appendfsync == "everysec" and can_wait:
        return (
            "every answer waits for Redis to sync its file, once a second, as appendfsync is "
            "everysec; appendfsync always answers sooner"
        )
    lost = "up to a second" if facts.appendfsync == "everysec" else "half a minute"
    return (
        f"DURABILITY={wanted} cannot be kept: appendfsync is {facts.appendfsync}, {lost} of "
        "accepted texts may be lost with the machine; set appendfsync always"
    )


def weakest(facts: Sequence[Facts]) -> Facts:
    """Put the facts of a Cluster's nodes together: what holds for all of them."""
    order = ("always", None, "everysec", "no")
    evictions = [each.eviction for each in facts]
    return Facts(
        version=min(each.version for each in facts),
        of_cluster=any(each.of_cluster for each in facts),
        appendonly=all(each.appendonly for each in facts),
        appendfsync=max((each.appendfsync for each in facts), key=order.index),
        eviction=next((each for each in evictions if each not in {None, "noeviction"}), None),
        min_replicas=min(each.min_replicas or 0 for each in facts),
        replicas=min(each.replicas for each in facts),
    )


async def _ask(execute: Execute) -> Facts:
    """Read the facts of one server through its `execute_command`."""
    info = await execute("INFO")
    version = str(info.get("valkey_version") or info["redis_version"])
    least = await _config(execute, "min-replicas-to-write")
    return Facts(
        version=tuple(int(part) for part in version.split(".") if part.isdigit()),
        of_cluster=bool(info.get("cluster_enabled")),
        appendonly=bool(info.get("aof_enabled")),
        appendfsync=await _config(execute, "appendfsync"),
        eviction=info.get("maxmemory_policy"),
        min_replicas=None if least is None else int(least),
        replicas=int(info.get("connected_slaves", 0)),
    )


async def _config(execute: Execute, name: str) -> str | None:
    try:
        found = await execute("CONFIG GET", name)
    except RedisConnectionError:
        raise
    except ResponseError:
        return None
    values = [value.decode() if isinstance(value, bytes) else value for value in found.values()]
    return str(values[0]) if values else None
