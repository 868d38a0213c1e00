"""Round trips to Redis: a group of script calls goes out in one piece, for `batch`.

To one server they follow one another on a `link`. In a Cluster each node has its own, so that a
node that is away holds up its own partitions alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from redis.exceptions import RedisError

from service.core.causes import cause_of
from service.errors import StoreError
from service.store.client import Command
from service.store.failures import unavailable
from service.store.link import Link, PlainLink

if TYPE_CHECKING:
    from service.store.plain_cluster import PlainCluster

log = structlog.get_logger()

AT_ONCE = 3
"""Most round trips under way to one server."""

KEY_AT = 3
"""Where EVAL and EVALSHA have their first key."""

TripDone = Callable[[Sequence[Sequence[Any]], StoreError | None], None]
"""Told how a round trip ended: for each command its answer and those to what went behind, Redis's
errors among them; or the error that kept all of them from an answer. Must not raise."""

Placing = Callable[[str], tuple[str, int]]
"""Names the node of a key, "" while it is not known, and tells its slot."""


class Trips(Protocol):
    """Makes round trips.

    at_once: most that may be under way to one node. place: None where one server has every key;
    else commands of different slots, or nodes, are not sent together.
    """

    at_once: int
    place: Placing | None

    def send(self, commands: Sequence[Command], after: Sequence[Command], told: TripDone) -> None:
        """Send EVAL and EVALSHA commands, each with a key, in one piece.

        after: what each server gets behind its own, on the same connection.
        """

    def start_over(self) -> None:
        """Leave a server that was demoted, and look for its successor."""

    async def aclose(self) -> None:
        """Wait for what was sent, and close the connection."""


class ServerTrips:
    """Round trips to one server. leave: drops what else leads to it."""

    place: Placing | None = None

    def __init__(self, link: Link | PlainLink, leave: Callable[[], Awaitable[None]]) -> None:
        self.at_once = AT_ONCE if link.kept else 1
        self._link = link
        self._leave = leave
        self._tasks = _Tasks()

    def send(self, commands: Sequence[Command], after: Sequence[Command], told: TripDone) -> None:
        """Send commands; see `Trips`."""
        self._link.send([*commands, *after], partial(_part, len(commands), told))

    def start_over(self) -> None:
        """Give the connections up; the next ones ask for the server's address anew."""
        self._link.drop()
        self._tasks.begin(self._forget_idle())

    async def aclose(self) -> None:
        """Close the link."""
        await self._link.aclose()

    async def _forget_idle(self) -> None:
        with suppress(RedisError, OSError):
            await self._leave()


class ClusterTrips:
    """Round trips to a Cluster's nodes."""

    at_once = 1

    def __init__(self, cluster: PlainCluster) -> None:
        self.place: Placing | None = cluster.place
        self._cluster = cluster
        self._tasks = _Tasks()

    def send(self, commands: Sequence[Command], after: Sequence[Command], told: TripDone) -> None:
        """Send commands; see `Trips`."""
        self._tasks.begin(self._send([(str(each[KEY_AT]), each) for each in commands], after, told))

    def start_over(self) -> None:
        """Do nothing: a node that was demoted says so itself, by MOVED."""

    async def aclose(self) -> None:
        """Do nothing: the connections are the client's."""

    async def _send(
        self, placed: list[tuple[str, Command]], after: Sequence[Command], told: TripDone
    ) -> None:
        try:
            answers = await self._cluster.send(placed, after)
        except Exception as error:  # noqa: BLE001  whoever waits has to hear of it, whatever it is
            told((), unavailable(error))
        else:
            told(answers, None)


class _Tasks:
    """Tasks under way; one that fails is told in the log."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a round trip to Redis failed unexpectedly", **cause_of(error))


def _part(count: int, told: TripDone, answers: Sequence[Any], error: Exception | None) -> None:
    """Part the answers to `count` commands from those to what went behind them."""
    if error is not None:
        told((), unavailable(error))
    else:
        behind = answers[count:]
        told([(answer, *behind) for answer in answers[:count]], None)
