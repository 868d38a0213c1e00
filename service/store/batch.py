"""Group commit: the script calls of one process leave together, one round trip at a time.

Calls made while a round trip is under way wait for it to end and then leave as the next one. A
quiet process waits for nothing; a busy one pays a round trip for dozens of callbacks. Calls of the
same script share one EVALSHA (see `scripts`), in the order they were made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from service.errors import StoreError, StoreUnavailable
from service.store.connection import describe, translated

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from service.store.scripts import Script

ITEMS_PER_CALL = 64
"""Most items one EVALSHA runs: bounds how long Redis serves nobody else, well under 1 ms."""

PASSING = (
    "OOM ",
    "READONLY ",
    "LOADING ",
    "CLUSTERDOWN ",
    "MASTERDOWN ",
    "NOREPLICAS ",
    "MISCONF ",
)
"""Beginnings of Redis errors that end by themselves or by an operator: refuse now, try later."""

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class _Item:
    keys: Sequence[str]
    args: Sequence[Argument]
    answer: asyncio.Future[Any]


class Batch:
    """Runs script calls against one Redis, grouped. Not shared between event loops."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._waiting: dict[Script, list[_Item]] = {}
        self._pump: asyncio.Task[None] | None = None
        self.calls = 0
        self.round_trips = 0

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run `script` for one item and return its answer.

        Raises StoreUnavailable when Redis can't be reached, does not answer in time or refuses for
            the moment. The call may have had its effect nevertheless.
        Raises StoreError for an error of the script itself.
        """
        loop = asyncio.get_running_loop()
        item = _Item(keys, args, loop.create_future())
        self._waiting.setdefault(script, []).append(item)
        if self._pump is None:
            self._pump = loop.create_task(self._empty())
        return await item.answer

    async def aclose(self) -> None:
        """Wait for what is under way."""
        if self._pump is not None:
            await self._pump

    async def _empty(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                calls = [
                    (script, items[i : i + ITEMS_PER_CALL])
                    for script, items in waiting.items()
                    for i in range(0, len(items), ITEMS_PER_CALL)
                ]
                self.calls += sum(len(items) for _, items in calls)
                self.round_trips += 1
                try:
                    with translated():
                        await self._round_trip(calls)
                except StoreError as error:
                    for _, items in calls:
                        for item in items:
                            _fail(item, error)
        finally:
            self._pump = None

    async def _round_trip(self, calls: list[tuple[Script, list[_Item]]]) -> None:
        pipeline: Any = self._client.pipeline(transaction=False)
        for script, items in calls:
            pipeline.execute_command("EVALSHA", script.sha, *_arguments(items))
        answers = await pipeline.execute(raise_on_error=False)
        for (script, items), answer in zip(calls, answers, strict=True):
            forgotten = isinstance(answer, NoScriptError)
            _deliver(items, await self._teach(script, items) if forgotten else answer)

    async def _teach(self, script: Script, items: list[_Item]) -> Any:
        """Run a call whose script a restart, a fail-over or SCRIPT FLUSH made Redis forget."""
        self.round_trips += 1
        client: Any = self._client
        try:
            return await client.execute_command("EVAL", script.source, *_arguments(items))
        except ResponseError as error:
            return error


def _arguments(items: list[_Item]) -> list[Argument]:
    keys: list[Argument] = []
    args: list[Argument] = [len(items)]
    for item in items:
        keys += item.keys
        args += (len(item.keys), len(item.args), *item.args)
    return [len(keys), *keys, *args]


def _deliver(items: list[_Item], answer: Any) -> None:
    if isinstance(answer, RedisError):
        error = _read_error(describe(answer), answer)
        for item in items:
            _fail(item, error)
        return
    for item, (failed, value) in zip(items, answer, strict=True):
        if failed:
            _fail(item, _read_error(value.decode(errors="replace")))
        elif not item.answer.done():
            item.answer.set_result(value)


def _fail(item: _Item, error: StoreError) -> None:
    if not item.answer.done():
        item.answer.set_exception(error)


def _read_error(text: str, cause: Exception | None = None) -> StoreError:
    # Inside a script redis-py's prefix is cut off the class, and Redis 7 writes "-OOM ..." whole.
    plain = text.removeprefix("-")
    passing = plain.startswith(PASSING) or (
        cause is not None and not isinstance(cause, ResponseError)
    )
    passing = passing or any(word.strip() in plain.split(maxsplit=1)[:1] for word in PASSING)
    error: StoreError = (StoreUnavailable if passing else StoreError)(f"Redis: {plain}")
    error.__cause__ = cause
    return error
