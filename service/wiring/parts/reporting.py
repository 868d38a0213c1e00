"""The figures of /metrics: what this process counts, what its siblings left, what waits in Redis.

Every process writes what it has counted to its slot (see `host.slots`), each second, before each
answer of /metrics and at its end; whoever is asked adds up all slots. So what was shown once was
written before, and no counter goes backwards when a process dies and is started again: that one
begins with what its predecessor wrote. Gauges of a slot that has been silent are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

import structlog

from service.core import metrics as m
from service.core.tally import Figures, decode, encode, lasting, merge
from service.errors import StoreUnavailable
from service.host.slots import Slots
from service.store.queues import Queues, Waiting
from service.workers.clock import now_ms

log = structlog.get_logger()

LEAVE_EVERY_S = 1.0
"""Between two writings of a slot, of a few kilobytes: what a killed process takes with it."""

SILENT_NS = 5_000_000_000
"""After five writings missed a process is dead, or its event loop hangs."""

LOOK_TIMEOUT_S = 2.0
"""Longest wait for Redis's figures; Prometheus itself gives up after 10 s by default."""


class Reporting:
    """Gathers figures for /metrics.

    own: what this process has counted. queues: what waits in Redis. slots: those of all processes
    of the supervisor; None for a process alone. redis_now_ms: what Redis's clock shows.
    """

    def __init__(
        self,
        own: Callable[[], Figures],
        queues: Queues,
        slots: Slots | None,
        redis_now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._redis_now_ms = redis_now_ms
        self._own = own
        self._queues = queues
        self._slots = slots
        left = slots.read(slots.own) if slots is not None else None
        self._before = lasting(_decoded(left[1])) if left else Figures()

    async def run_until(self, end: asyncio.Event) -> None:
        """Leave figures for the siblings each second until `end`, and then once more."""
        while self._slots is not None and not end.is_set():
            self._leave()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_EVERY_S):
                    await end.wait()
        self._leave()

    async def gather(self) -> Figures:
        """Return the figures of all processes and of Redis, as far as these can be had."""
        every = [self._leave(), *self._siblings()]
        try:
            every.append(of_queues(await self._queues.look(), self._redis_now_ms()))
        except Exception as error:  # noqa: BLE001  whatever it is, memory's figures are shown
            every.append(Figures(gauges={m.REDIS_UP.name: {"": 0}}))
            if not isinstance(error, StoreUnavailable):
                log.warning("Redis's figures can't be read", error=type(error).__name__)
        wanted = 1 if self._slots is None else self._slots.count
        every.append(Figures(gauges={m.PROCESSES_WANTED.name: {"": wanted}}))
        return merge(every)

    def _leave(self) -> Figures:
        """Write our figures, with our predecessor's, to our slot; returns them."""
        figures = merge((self._before, self._own()))
        if self._slots is not None:
            try:
                self._slots.write(encode(figures), time.monotonic_ns())
            except (OSError, ValueError) as error:
                log.error("figures can't be left for the other processes", error=str(error))
        return figures

    def _siblings(self) -> list[Figures]:
        slots = self._slots
        if slots is None:
            return []
        found = []
        for slot in range(slots.count):
            left = slots.read(slot) if slot != slots.own else None
            if left is not None:
                at_ns, figures = left[0], _decoded(left[1])
                silent = time.monotonic_ns() - at_ns > SILENT_NS
                found.append(lasting(figures) if silent else figures)
        return found


def of_queues(every: Sequence[Waiting], now: int) -> Figures:
    """Return what waits in Redis, by partition. now: ms since the epoch by its clock."""
    numbered = [(str(partition), each) for partition, each in enumerate(every)]
    return Figures(
        gauges={
            m.REDIS_UP.name: {"": 1},
            m.INBOX.name: {partition: each.inbox for partition, each in numbered},
            m.OUTBOX.name: {partition: each.outbox for partition, each in numbered},
            m.INBOX_OLDEST.name: {p: _age_s(each.inbox_since_ms, now) for p, each in numbered},
            m.OUTBOX_OLDEST.name: {p: _age_s(each.outbox_since_ms, now) for p, each in numbered},
            m.DEAD_LETTERS.name: {"": sum(each.dead for each in every)},
        }
    )


def _age_s(since_ms: int | None, now: int) -> float:
    return 0.0 if since_ms is None else max(0, now - since_ms) / 1000


def _decoded(data: bytes) -> Figures:
    try:
        return decode(data)
    except ValueError:
        return Figures()  # Of another version, replaced while we ran.
