"""The public side of a process: the door, the inbox behind it, and the server it is reached by."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from urllib.parse import urlsplit

from service.core import metrics as m
from service.core.tally import Figures, spread_of
from service.core.twilio.signature import Verifier
from service.host.listeners import AppServer
from service.settings.forms import CALLBACK_PATH
from service.settings.table import Settings
from service.store.inbox import Inbox
from service.store.watermark import Watermark
from service.web.door.callbacks import Door
from service.web.door.events import Events
from service.web.door.public import public_app, written_paths
from service.web.door.way_in import connections
from service.wiring.parts.base import Base
from service.wiring.parts.setup import InUse
from service.wiring.stopping import STOP_GRACE_S

OPENING_S = 5.0
"""What callers wait for, in the queue of the listener, until the first look at Redis is done.
Another process on the same listener may be able to take them meanwhile; Twilio waits for 15 s."""


class PublicSide:
    """Takes callbacks.

    listener: where they come from.
    """

    def __init__(self, base: Base, listener: socket.socket) -> None:
        self._stop = base.stop
        self._tasks = base.tasks
        self._redis = base.redis
        self._setup = base.setup
        self._callers = base.callers
        self._door = _door(base)
        base.setup.follow(self._turn_to)
        prefix = urlsplit(base.settings.public_url).path
        paths = written_paths(callback_path=CALLBACK_PATH, prefix=prefix)
        self._server = AppServer(
            public_app(self._door, callback_path=CALLBACK_PATH, prefix=prefix),
            listener,
            stop_s=STOP_GRACE_S,
            http=connections(self._door, paths, self._callers),
        )

    def start(self) -> asyncio.Task[None]:
        """Begin to serve, until the process is told to stop."""
        return self._tasks.start("the door", self.run, stop=self._stop.told, answers=True)

    async def run(self) -> None:
        """Serve callers until the process is told to stop; those under way get the grace."""
        with suppress(TimeoutError):
            async with asyncio.timeout(OPENING_S):
                if await self._redis.opened_before_stop() and self._setup.in_use is None:
                    await self._setup.looked.wait()
        await self._server.run_until(self._stop.told)

    @property
    def refused(self) -> int:
        """How many callbacks were refused for our own or Redis's sake: they may be missing.

        Those from before the setup are among them: another process may be a second ahead.
        """
        counted = self._door.counters
        return counted.unavailable + counted.busy + counted.failed + counted.not_set_up

    def _turn_to(self, in_use: InUse) -> None:
        settings = in_use.settings
        self._door.turn_to(
            _verifier(settings),
            settings.twilio_account_sid,
            sender=settings.twilio_sender,
            event_key=settings.event_key,
        )

    def figures(self) -> Figures:
        """Return what the door and its connections count; an outcome is called as its field is."""
        return Figures(
            counters={
                m.CALLBACKS.name: asdict(self._door.counters),
                m.CONNECTIONS.name: asdict(self._callers.counters),
            },
            histograms={m.ACKNOWLEDGEMENT.name: spread_of(self._door.acknowledged)},
            gauges={m.IN_FLIGHT.name: {"": self._door.in_flight}},
        )

    def counters(self) -> Mapping[str, int]:
        """Return what became of callbacks."""
        return {f"callbacks_{what}": n for what, n in asdict(self._door.counters).items()}


def _door(base: Base) -> Door:
    settings = base.settings
    inbox = Inbox(
        base.batch,
        partitions=settings.partitions,
        window_s=settings.dedupe_window_s,
        limit=settings.inbox_limit,
        opened=base.redis.opened,
    )
    events = Events(
        settings.event_key,
        account=settings.twilio_account_sid,
        sender=settings.twilio_sender,
        inbox=inbox,
        numbers=Watermark(base.client),
        pictures=base.connector,
        limit_bytes=settings.event_limit_bytes,
    )
    return Door(
        _verifier(settings) if settings.is_set_up else None,
        settings.twilio_account_sid,
        inbox,
        events=events,
        body_limit_bytes=settings.body_limit_bytes,
        now=base.clocks.redis_now,
    )


def _verifier(settings: Settings) -> Verifier:
    url = settings.public_url + CALLBACK_PATH
    return Verifier(url, settings.auth_tokens, settings.shared_keys)
