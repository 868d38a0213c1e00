"""Group commit: the script calls of one process leave together, in one round trip.

Calls made while a round trip is under way wait for it to end and then leave as the next one. A
quiet process waits for nothing; a busy one pays a round trip for dozens of callbacks. Calls of the
same script share one EVALSHA (see `scripts`), in the order they were made. When many wait, they
leave behind the round trip under way, so that Redis and the process need not wait for each other.

In a Cluster one EVALSHA stays in one slot, and every node has round trips of its own, so that a
node that is away holds up its own partitions alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoScriptError, RedisError, ResponseError

from service.errors import StoreError, StoreUnavailable
from service.store.cluster import Cluster, slot_of
from service.store.connection import describe, start_over, translated
from service.store.link import Link

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from service.store.durability import Confirmation
    from service.store.scripts import Script

ITEMS_PER_CALL = 64
"""Most items one EVALSHA runs: bounds how long Redis serves nobody else, well under 1 ms."""

PASSING = {
    "OOM",
    "READONLY",
    "LOADING",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
}
"""Codes of Redis errors that end by themselves or by an operator: refuse now, try later."""

SCRIPT_LINE = re.compile(r"@?user_script: ?\d+: ")

CROWD = 16
"""Waiting calls that leave although a round trip is under way. Fewer make a group too small to be
worth its cost; with many more, process and Redis take turns instead of working at once."""

AT_ONCE = 3
"""Most round trips under way to one server."""

Argument = str | bytes | int

Done = Callable[[Any, StoreError | None], None]
"""Told how a script call ended: its answer, or the error. Must not raise."""

_Item = tuple[Sequence[str], Sequence[Argument], Done]
"""KEYS, ARGV and who is told. A plain tuple, as the door makes one for each callback."""

_Call = tuple["Script", int, list[_Item]]
"""Items of one EVALSHA: the script, the slot of their keys (0 without a Cluster), the items."""


@dataclass(slots=True)
class _Lane:
    """Round trips that follow one another: those to one server.

    crowd: calls waiting. trips: under way or about to begin. starting: one is about to begin, and
        takes along whatever waits then.
    """

    waiting: dict[tuple[Script, int], list[_Item]] = field(default_factory=dict)
    crowd: int = 0
    trips: set[asyncio.Task[None]] = field(default_factory=set)
    starting: bool = False


class Batch:
    """Runs script calls against one Redis, grouped. Not shared between event loops."""

    def __init__(self, client: Redis | Cluster) -> None:
        self._client = client
        self._cluster = client if isinstance(client, Cluster) else None
        self._link = None if isinstance(client, Cluster) else Link(client)
        self._at_once = 1 if isinstance(client, Cluster) else AT_ONCE
        self._lane = _Lane()
        self._lanes: dict[str, _Lane] = {"": self._lane}
        self._confirmations: Sequence[Confirmation] = ()
        self.calls = 0
        self.round_trips = 0

    def confirm(self, confirmations: Sequence[Confirmation]) -> None:
        """From now on, count a call as done only when these have confirmed it."""
        self._confirmations = confirmations
        # Each of two round trips would wait for a sync or a replica of its own, for half the calls.
        alone = confirmations or self._cluster is not None
        self._at_once = 1 if alone else AT_ONCE

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run `script` for one item and return its answer.

        Raises StoreUnavailable when Redis can't be reached, does not answer in time, refuses for
            the moment or does not confirm. The call may have had its effect nevertheless.
        Raises StoreError for an error of the script itself.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(script, keys, args, partial(_settle, answer))
        return await answer

    def submit(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], done: Done
    ) -> None:
        """Run `script` for one item, as `run` does, and tell `done` instead of somebody waiting.

        done: called once, later, with the answer or with what `run` would raise.
        """
        lane, slot = self._lane, 0
        if self._cluster is not None:
            slot = slot_of(keys[0])
            lane = self._lanes.setdefault(self._cluster.node_name(slot), _Lane())
        lane.waiting.setdefault((script, slot), []).append((keys, args, done))
        lane.crowd += 1
        if not lane.trips or (
            lane.crowd >= CROWD and not lane.starting and len(lane.trips) < self._at_once
        ):
            lane.starting = True
            trip = asyncio.get_running_loop().create_task(self._empty(lane))
            lane.trips.add(trip)

    async def aclose(self) -> None:
        """Wait for what is under way, and close the connection."""
        await asyncio.gather(*(trip for lane in self._lanes.values() for trip in lane.trips))
        if self._link is not None:
            await self._link.drop()

    async def _empty(self, lane: _Lane) -> None:
        """Make round trips as long as calls wait that no other trip is to take along."""
        try:
            while lane.starting or (lane.waiting and (len(lane.trips) == 1 or lane.crowd >= CROWD)):
                lane.starting = False
                await self._take_along(lane)
        finally:
            # Here, not in a callback of the task: a call made in between would wait for nobody.
            lane.trips.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _take_along(self, lane: _Lane) -> None:
        waiting, lane.waiting = lane.waiting, {}
        self.calls += lane.crowd
        lane.crowd = 0
        calls = [
            (script, slot, items[i : i + ITEMS_PER_CALL])
            for (script, slot), items in waiting.items()
            for i in range(0, len(items), ITEMS_PER_CALL)
        ]
        self.round_trips += 1
        try:
            with translated():
                await self._round_trip(calls)
        except StoreError as error:
            for _, _, items in calls:
                _fail(items, error)

    async def _round_trip(self, calls: list[_Call]) -> None:
        commands = [("EVALSHA", script.sha, *_arguments(items)) for script, _, items in calls]
        # `confirm` may be called while the answers are on their way.
        asked = self._confirmations
        demoted = False
        for (script, slot, items), (answer, *confirmed) in zip(
            calls, await self._send(calls, commands, asked), strict=True
        ):
            if isinstance(answer, NoScriptError):
                answer, *confirmed = await self._teach(script, slot, items, asked)  # noqa: PLW2901
            short = _shortfall(asked, confirmed)
            demoted = self._deliver(items, answer, short) or demoted
        if demoted:
            await start_over(self._client)
            if self._link is not None:
                await self._link.drop()

    async def _teach(
        self, script: Script, slot: int, items: list[_Item], asked: Sequence[Confirmation]
    ) -> Sequence[Any]:
        """Run a call whose script a restart, a fail-over or SCRIPT FLUSH made Redis forget."""
        self.round_trips += 1
        command = ("EVAL", script.source, *_arguments(items))
        return (await self._send([(script, slot, items)], [command], asked))[0]

    async def _send(
        self,
        calls: list[_Call],
        commands: list[tuple[Argument, ...]],
        asked: Sequence[Confirmation],
    ) -> Sequence[Sequence[Any]]:
        """Send the calls' commands; for each its answer and those of the confirmations."""
        after = [confirmation.command for confirmation in asked]
        if self._cluster is not None:
            placed = [
                (slot, command) for (_, slot, _), command in zip(calls, commands, strict=True)
            ]
            return await self._cluster.send(placed, after)
        answers = await cast("Link", self._link).exchange([*commands, *after])
        confirmed = answers[len(commands) :]
        return [(answer, *confirmed) for answer in answers[: len(commands)]]

    @staticmethod
    def _deliver(items: list[_Item], answer: Any, short: str) -> bool:
        """Hand out a call's answers; True when they show that the server is no master any more.

        short: what its confirmations fall short of, "" when they do not.
        """
        error: StoreError | None = None
        if isinstance(answer, RedisError | OSError):
            error = _read_error(describe(answer), answer)
        elif short:
            error = StoreUnavailable(f"Redis: {short}")
        if error is not None:
            _fail(items, error)
            return _code(answer) == "READONLY"
        demoted = False
        for (_, _, done), (failed, value) in zip(items, answer, strict=True):
            if failed:
                text = value.decode(errors="replace")
                demoted = demoted or "READONLY " in text
                done(None, _read_error(text))
            else:
                done(value, None)
        return demoted


def _shortfall(asked: Sequence[Confirmation], confirmed: Sequence[Any]) -> str:
    if not asked:
        return ""
    pairs = zip(asked, confirmed, strict=False)
    return "; ".join(filter(None, (each.shortfall(answer) for each, answer in pairs)))


def _arguments(items: list[_Item]) -> list[Argument]:
    keys: list[Argument] = []
    args: list[Argument] = [len(items)]
    for item_keys, item_args, _ in items:
        keys += item_keys
        args += (len(item_keys), len(item_args), *item_args)
    return [len(keys), *keys, *args]


def _fail(items: list[_Item], error: StoreError) -> None:
    for _, _, done in items:
        done(None, error)


def _settle(answer: asyncio.Future[Any], value: Any, error: StoreError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)


def _read_error(text: str, cause: Exception | None = None) -> StoreError:
    # redis-py cuts the code off the text of an error it knows. From inside a script it comes
    # whole; with the protocol's "-" before it, and Redis 6.2 names the script's line first.
    plain = SCRIPT_LINE.sub("", text).removeprefix("-")
    if code := _code(cause):
        plain = f"{code} {plain.removeprefix(code).strip()}"
    else:
        code = plain.partition(" ")[0]
    passing = code in PASSING or (cause is not None and not isinstance(cause, ResponseError))
    error: StoreError = (StoreUnavailable if passing else StoreError)(f"Redis: {plain}")
    error.__cause__ = cause
    return error


def _code(error: object) -> str:
    return str(getattr(error, "status_code", None) or "")
