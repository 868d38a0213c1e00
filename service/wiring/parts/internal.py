"""The internal side of a process: the listener for whoever watches over it, and its figures."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from service.core import metrics as m
from service.core.tally import Figures, merge, spread_of
from service.host.answers import AsgiApp
from service.host.bounded import bounded
from service.host.listeners import AppServer
from service.host.slots import Slots
from service.store.queues import Queues
from service.web.internal.app import Readiness, answered, internal_app
from service.wiring.parts.base import Base, Part
from service.wiring.parts.console import Console
from service.wiring.parts.reporting import LOOK_TIMEOUT_S, Reporting


class InternalSide:
    """Tells how the process stands and what it counts.

    parts: whose counts are told beside the base's. readiness: what /readyz says.
    slots: where the processes of one supervisor leave their figures; None for a process alone.
    end: ends it, once set.
    """

    def __init__(
        self,
        base: Base,
        parts: Sequence[Part],
        readiness: Readiness,
        listener: socket.socket,
        slots: Slots | None,
    ) -> None:
        settings = base.settings
        self._tasks = base.tasks
        self.end = asyncio.Event()
        self._reporting = Reporting(
            partial(_figures, base, parts),
            Queues(base.client, settings.partitions, timeout_s=LOOK_TIMEOUT_S),
            slots,
            base.clocks.redis_now_ms,
        )
        self._server = AppServer(
            internal_app(
                readiness,
                partial(_counters, base, parts),
                self._reporting.gather,
                hosts=(settings.internal_host, *settings.internal_hosts.split()),
                console=self._console(base, readiness) if settings.console == "on" else None,
            ),
            listener,
            stop_s=1,
            http=bounded(base.visitors),
        )

    def _console(self, base: Base, readiness: Readiness) -> AsgiApp:
        """Make what builds the console: nothing of it is imported before somebody asks for it."""
        settings = base.settings

        def build() -> AsgiApp:
            from service.web.console.app import console_app

            return console_app(
                base.client,
                partial(answered, readiness),
                self._reporting.gather,
                deployment=base.deployment,
                ending=self.end,
                # An address that somebody chose to listen at is one they ask for pages by.
                hosts=(settings.internal_host, *settings.console_hosts.split()),
                tls=settings.console_tls == "on",
            )

        return Console(build)

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to serve and to leave figures for the other processes, until `end` is set."""
        start, end = self._tasks.start, self.end
        return [
            start("the internal server", partial(self._server.run_until, end), stop=end),
            start("the figures", partial(self._reporting.run_until, end), stop=end),
        ]


def _figures(base: Base, parts: Sequence[Part]) -> Figures:
    batch = base.batch
    own = Figures(
        counters={
            m.SCRIPT_CALLS.name: {"": batch.calls},
            m.CPU.name: {"": time.process_time()},
        },
        histograms={m.ROUND_TRIP.name: spread_of(batch.round_trip)},
        gauges={
            m.PROCESSES.name: {"": 1},
            m.INSTANCE_READY.name: {"": int(base.instance.ready.is_set())},
        },
    )
    return merge((own, *(part.figures() for part in parts)))


def _counters(base: Base, parts: Sequence[Part]) -> dict[str, int]:
    counted = {
        "pid": os.getpid(),
        "script_calls": base.batch.calls,
        "script_round_trips": base.batch.round_trips,
        "dead_letters": base.redis.known.dead_letters,
    }
    for part in parts:
        counted |= part.counters()
    return counted | {f"connections_{what}": n for what, n in asdict(base.callers.counters).items()}
