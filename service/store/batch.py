"""Group commit: the script calls of one process leave together, in one round trip.

Calls made while a round trip is under way wait for it to end and then leave as the next one. A
quiet process waits for nothing but the turn of its event loop; a busy one pays a round trip for
dozens of callbacks. Calls of the same script share one EVALSHA (see `scripts`), in the order they
were made. When CROWD wait they leave at once, also behind a round trip under way: Redis works on
them while the process reads the next ones, and neither waits for the other.

In a Cluster one EVALSHA stays in one slot, and every node has round trips of its own, see `trips`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, RedisError

from service.core.metrics import ROUND_TRIP_BOUNDS
from service.core.tally import Histogram
from service.errors import StoreError, StoreUnavailable
from service.store.client import Command
from service.store.failures import answered, code_of, describe

if TYPE_CHECKING:
    from service.store.client import Redis
    from service.store.durability import Confirmation
    from service.store.scripts import Script
    from service.store.trips import TripDone

ITEMS_PER_CALL = 64
"""Most items one EVALSHA runs: bounds how long Redis serves nobody else, well under 1 ms."""

CROWD = 16
"""Waiting calls that leave although a round trip is under way. Fewer make a group too small to be
worth its cost; with many more, process and Redis take turns instead of working at once."""

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

    crowd: calls waiting. trips: round trips under way.
    """

    waiting: dict[tuple[Script, int], list[_Item]] = field(default_factory=dict)
    crowd: int = 0
    trips: int = 0


class Batch:
    """Runs script calls against one Redis, grouped. Not shared between event loops.

    calls, round_trips: made so far. round_trip: seconds of those that were answered.
    """

    def __init__(self, client: Redis) -> None:
        self._trips = client.trips()
        self._place = self._trips.place
        self._at_once = self._trips.at_once
        self._lane = _Lane()
        self._lanes: dict[str, _Lane] = {"": self._lane}
        self._confirmations: Sequence[Confirmation] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quiet: asyncio.Future[None] | None = None
        self.calls = 0
        self.round_trips = 0
        self.round_trip = Histogram(ROUND_TRIP_BOUNDS)

    def confirm(self, confirmations: Sequence[Confirmation]) -> None:
        """From now on, count a call as done only when these have confirmed it."""
        self._confirmations = confirmations
        # Each of two round trips would wait for a sync or a replica of its own, for half the calls.
        self._at_once = 1 if confirmations else self._trips.at_once

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run `script` for one item and return its answer.

        Raises StoreUnavailable when Redis can't be reached, does not answer in time, refuses for
            the moment or does not confirm. The call may have had its effect nevertheless.
        Raises StoreError for an error of the script itself.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(script, keys, args, partial(_resolve, answer))
        return await answer

    async def run_through(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        cut_short: Callable[[Any], Awaitable[object]],
    ) -> Any:
        """Run `script` as `run` does; cancelled meanwhile, undo it once it is answered.

        cut_short: called with the answer, before the cancellation goes on.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submit(script, keys, args, partial(_resolve, answer))
        try:
            # Shielded: a cancelled future would not hear an answer that comes in the same turn of
            # the loop, before whoever waits for it runs.
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            while not answer.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((answer,))
            await cut_short(answer.result())
            raise

    def submit(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], done: Done
    ) -> None:
        """Run `script` for one item, as `run` does, and tell `done` instead of somebody waiting.

        done: called once, later, with the answer or with what `run` would raise.
        """
        lane, slot = self._lane, 0
        if self._place is not None:
            node, slot = self._place(keys[0])
            lane = self._lanes.setdefault(node, _Lane())
        lane.waiting.setdefault((script, slot), []).append((keys, args, done))
        lane.crowd += 1
        if lane.crowd >= CROWD and lane.trips < self._at_once:
            self._leave(lane)
        elif lane.crowd == 1 and not lane.trips:
            # With those that come in the same turn of the loop.
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._leave_at_last, lane)

    async def aclose(self) -> None:
        """Wait for what is under way, and close the connection."""
        while any(lane.trips or lane.waiting for lane in self._lanes.values()):
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet
        await self._trips.aclose()

    def _leave_at_last(self, lane: _Lane) -> None:
        if lane.waiting and not lane.trips:
            self._leave(lane)

    def _leave(self, lane: _Lane) -> None:
        """Send off all that wait."""
        waiting, lane.waiting = lane.waiting, {}
        self.calls += lane.crowd
        lane.crowd = 0
        lane.trips += 1
        calls = [
            (script, slot, items[i : i + ITEMS_PER_CALL])
            for (script, slot), items in waiting.items()
            for i in range(0, len(items), ITEMS_PER_CALL)
        ]
        # `confirm` may be called while the answers are on their way.
        asked = self._confirmations
        commands = [("EVALSHA", script.sha, *_arguments(items)) for script, _, items in calls]
        self._send(commands, asked, partial(self._arrive, lane, calls, asked))

    def _arrive(
        self,
        lane: _Lane,
        calls: list[_Call],
        asked: Sequence[Confirmation],
        answers: Sequence[Sequence[Any]],
        error: StoreError | None,
    ) -> None:
        """Hand out the answers of a round trip; whoever waits for its end leaves before that."""
        lane.trips -= 1
        if lane.waiting and (not lane.trips or lane.crowd >= CROWD):
            self._leave(lane)
        if error is not None:
            for _, _, items in calls:
                _fail(items, error)
        else:
            self._hand_out(lane, calls, asked, answers)
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _hand_out(
        self,
        lane: _Lane,
        calls: list[_Call],
        asked: Sequence[Confirmation],
        answers: Sequence[Sequence[Any]],
    ) -> None:
        forgotten = []
        demoted = False
        for call, (answer, *confirmed) in zip(calls, answers, strict=True):
            if isinstance(answer, NoScriptError):
                forgotten.append(call)
            else:
                demoted = self._deliver(call[2], answer, _shortfall(asked, confirmed)) or demoted
        if forgotten:
            self._teach(lane, forgotten, asked)
        if demoted:
            self._trips.start_over()

    def _teach(self, lane: _Lane, calls: list[_Call], asked: Sequence[Confirmation]) -> None:
        """Run calls whose script a restart, a fail-over or SCRIPT FLUSH made Redis forget."""
        lane.trips += 1
        commands = [("EVAL", script.source, *_arguments(items)) for script, _, items in calls]
        self._send(commands, asked, partial(self._arrive, lane, calls, asked))

    def _send(self, commands: list[Command], asked: Sequence[Confirmation], told: TripDone) -> None:
        """Send the calls' commands, and tell the answer of each and those of its confirmations."""
        self.round_trips += 1
        after = [confirmation.command for confirmation in asked]
        self._trips.send(commands, after, partial(self._time, time.monotonic(), told))

    def _time(
        self,
        began: float,
        told: TripDone,
        answers: Sequence[Sequence[Any]],
        error: StoreError | None,
    ) -> None:
        if error is None:
            self.round_trip.observe(time.monotonic() - began)
        told(answers, error)

    @staticmethod
    def _deliver(items: list[_Item], answer: Any, short: str) -> bool:
        """Hand out a call's answers; True when they show that the server is no master any more.

        short: what its confirmations fall short of, "" when they do not.
        """
        if isinstance(answer, RedisError | OSError):
            _fail(items, answered(describe(answer), answer))
            return code_of(answer) == "READONLY"
        unconfirmed = StoreUnavailable(f"Redis: {short}") if short else None
        demoted = False
        for (_, _, done), (failed, value) in zip(items, answer, strict=True):
            if failed:
                text = value.decode(errors="replace")
                demoted = demoted or "READONLY " in text
                # Rather than what the confirmations fall short of: nothing was there to confirm,
                # and a demoted server refuses those as well.
                done(None, answered(text))
            else:
                done(None if unconfirmed else value, unconfirmed)
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


def _resolve(answer: asyncio.Future[Any], value: Any, error: StoreError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
