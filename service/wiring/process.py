"""One process of the running service: which parts it has, and the order they start and stop in."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog

from service.host.listeners import stop_event
from service.host.notify import Starter
from service.host.slots import Slots
from service.settings.setup import Given
from service.wiring.parts.base import Base, Part, build_base
from service.wiring.parts.gaps import Gaps
from service.wiring.parts.internal import InternalSide
from service.wiring.parts.public import PublicSide
from service.wiring.parts.readiness import look_at_all
from service.wiring.parts.terminal import way_in
from service.wiring.parts.work import WorkSide
from service.wiring.stopping import PARTS_S, Stop, end_by_force, tidy_up
from service.workers.supervised import end_all
from service.workers.telling import Tell

if TYPE_CHECKING:
    from service.handlers.router import Router

log = structlog.get_logger()

ProcessRole = Literal["web", "worker", "all"]

YOUNG_OBJECTS = 10_000
"""New objects before the collector looks for circles among them. Each text under way is some tens,
and ends without one: at CPython's 700 the search took a tenth of a busy worker's time."""


class Process:
    """One process of the service.

    given: what the settings say. role: which parts run. redis_url: the Redis to use.
    router: the loaded handlers.
    starter: whom to tell when it is up and when it stops.
    slots: where the processes of one supervisor leave their figures; None for a process alone.
    tell: logs what people wrote, where that is asked for.
    worker: its id as an owner of partitions, unique for each start, without ":".
    let_go: called once it was told to stop: nobody else is to listen any more.
    stopping: whether it was told to stop, or has to. hangs: whether something did not stop in
        time, so that what is left of it must be ended by force.
    """

    def __init__(
        self,
        given: Given,
        role: ProcessRole,
        redis_url: str,
        router: Router,
        *,
        starter: Starter,
        slots: Slots | None = None,
        tell: Tell | None = None,
        worker: str,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        self.stopping = False
        self.hangs = False
        self._given = given
        self._role = role
        self._redis_url = redis_url
        self._router = router
        self._starter = starter
        self._slots = slots
        self._tell = tell
        self._worker = worker
        self._let_go = let_go

    async def run(
        self, public: socket.socket | None, internal: socket.socket, *, stop_with_stdin: bool
    ) -> int:
        """Run until SIGTERM or SIGINT; returns the exit status.

        public: where callbacks come from; None for a worker. internal: where probes do.
        Raises SettingsError, StoreMismatch, and KeepsFailing when a part of it does not keep
            running.
        """
        stop = Stop(stop_event(stop_with_stdin=stop_with_stdin))
        base = build_base(self._given, self._redis_url, stop)
        doors = [PublicSide(base, public)] if public is not None else []
        parts: list[Part] = [*doors, *self._work_sides(base)]
        gaps = Gaps(base, lambda: sum(door.refused for door in doors))
        readiness = partial(look_at_all, base, gaps, len(self._router))
        inside = InternalSide(base, (*parts, gaps), readiness, internal, self._slots)
        addresses = _addresses(public=public, internal=internal)
        first = self._slots is None or self._slots.own == 0
        shown = way_in(base, internal, first=first)

        background = inside.start()
        watching = [
            base.tasks.start("the watch over the instance", base.instance.run),
            gaps.start(),
            base.tasks.start("the watch over Redis", base.redis.run),
            base.tasks.start("the watch over the setup", partial(base.setup.run, shown)),
            base.tasks.start("the comparison of clocks", partial(base.clocks.run, base.client)),
        ]
        ending = []
        tidied = True
        try:
            ending += [part.start() for part in parts]
            _leave_alone_what_stays()
            if await base.redis.opened_before_stop():
                log.info("Parley is up", role=self._role, **addresses)
                self._starter.up()
            await stop.told.wait()
            self._begin_to_stop()
            tidied = await end_all(ending, PARTS_S)
            ending.clear()
        finally:
            ended = await tidy_up(
                (*ending, *watching),
                background,
                inside.end,
                closes=(base.connector.aclose, base.batch.aclose),
                disconnect=base.client.aclose,
            )
            self.hangs = not (ended and tidied)
        stop.raise_failure()
        log.info("Parley has stopped")
        return int(self.hangs)

    def _work_sides(self, base: Base) -> list[WorkSide]:
        """Build the work side, if this process has one."""
        if self._role == "web":
            return []
        return [WorkSide(base, self._router, self._redis_url, self._worker, self._tell)]

    def _begin_to_stop(self) -> None:
        self.stopping = True
        self._starter.stopping()
        self._let_go()
        end_by_force()


def _addresses(**listeners: socket.socket | None) -> dict[str, str]:
    return {
        name: "{}:{}".format(*listener.getsockname()[:2])
        for name, listener in listeners.items()
        if listener is not None
    }


def _leave_alone_what_stays() -> None:
    """Spare the garbage collector what was imported and built: it need not walk that again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
