"""The watch over the setup: what a process is set up with, and all that turns when that changes.

Every second a version is asked for in Redis; a newer setup is loaded, completed by the settings and
handed to everybody who follows, while they run. One that can't be used is told of, and the former
one stays in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from service.connector.provisioning import Wanted
from service.core.open_connectors.templates import Template
from service.errors import SettingsError, SetupChanged, StoreUnavailable
from service.operate.files import message_template, wanted_instance
from service.settings.setup import Given
from service.settings.table import Settings
from service.store.setups import KeptSetup, Setups
from service.web.internal.app import Check

log = structlog.get_logger()

LOOK_S = 1.0
"""Between two looks: a setup is to be in use within two seconds, the slowest answer included."""

UNSEEN = -1
"""Instead of a version, before the first look."""


@dataclass(frozen=True, slots=True)
class InUse:
    """What a process is set up with.

    settings: whole ones. version: of the setup among them, 0 without one.
    wanted: the instance to be provisioned. message: template of a reply's body.
    """

    settings: Settings
    version: int
    wanted: Wanted
    message: Template


Follower = Callable[[InUse], None]
"""Turns something to another setup, at once; must not raise."""


class SetupWatch:
    """Knows what the process is set up with.

    given: what the settings say. setups: where setups are kept. opened: set once Redis is open.
    looked: set once it was looked whether there is a setup.
    Raises SettingsError when the settings say all that it takes, and a file they name is wrong.
    """

    def __init__(self, given: Given, setups: Setups, opened: asyncio.Event) -> None:
        self._given = given
        self._setups = setups
        self._opened = opened
        self._followers: list[Follower] = []
        self._told = asyncio.Event()
        self._seen = UNSEEN
        self._unusable = UNSEEN
        self._trouble = ""
        self._handed_over = False
        self.looked = asyncio.Event()
        self.in_use = None if given.missing({}) else _whole(given, None)

    def follow(self, turn: Follower) -> None:
        """Have what the process is set up with handed to `turn`, from the next change on."""
        self._followers.append(turn)

    def changed(self) -> None:
        """Look at once: there is another setup."""
        self._told.set()

    async def still_in_use(self, version: int) -> None:
        """Ask Redis whether a version is the newest, but for one that can't be used here.

        Raises SetupChanged when it is not, StoreUnavailable.
        """
        newest = await self._setups.version()
        if newest not in {version, self._unusable}:
            self.changed()
            raise SetupChanged(f"setup {newest} is in use, and this process had setup {version}")

    async def run(self, not_set_up: Callable[[], Awaitable[None]] | None = None) -> None:
        """Watch, until cancelled. not_set_up: awaited once if there is nothing at the start."""
        await self._opened.wait()
        while True:
            self._told.clear()
            with suppress(StoreUnavailable):  # What there is stays in use.
                await self._look()
                if not_set_up is not None and self.in_use is None:
                    await not_set_up()
                not_set_up = None
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._told.wait()

    def check(self) -> Check:
        """Say what /readyz says of it."""
        if self.in_use is not None:
            version = self.in_use.version
            return Check(ok=True, detail=self._trouble or (f"version {version}" if version else ""))
        if not self.looked.is_set():
            return Check(ok=False, detail="not looked at yet")
        return Check(ok=False, detail=self._trouble)

    async def _look(self) -> None:
        newest = await self._setups.version()
        if newest == self._seen:
            return
        kept, version = None, 0
        try:
            kept = await self._setups.current()
            version = kept.version if kept is not None else 0
            if kept is None and self._given.missing({}):
                self._find_nothing()
            else:
                self._use(_whole(self._given, kept))
        except SettingsError as error:
            # Its version is not told where it can't be opened.
            version = version or newest
            self._refuse(version, error)
        self._seen = version
        self.looked.set()

    def _use(self, in_use: InUse) -> None:
        self._trouble, self._unusable = "", UNSEEN
        if in_use.version:
            log.info("set up", version=in_use.version)
        self.in_use = in_use
        self._hand_over(in_use)

    def _hand_over(self, in_use: InUse) -> None:
        self._handed_over = True
        for turn in self._followers:
            turn(in_use)

    def _refuse(self, version: int, error: SettingsError) -> None:
        self._unusable = version
        self._trouble = f"setup {version} can't be used: {error}"
        former = self.in_use.version if self.in_use is not None else None
        log.error("a setup can't be used", version=version, error=str(error), in_use=former)
        if self.in_use is not None and not self._handed_over:
            # The settings say all that it takes, and would wait for ever.
            self._hand_over(self.in_use)

    def _find_nothing(self) -> None:
        command = "console" if self._given.partial().console == "on" else "connect"
        missing = ", ".join(each.upper() for each in self._given.missing({}))
        if self.in_use is None:
            self._trouble = f"not set up: run `parley {command}`; missing: {missing}"
            log.warning("not set up", run=f"parley {command}", missing=missing)
            return
        self._unusable = 0
        self._trouble = f"the setup is gone from Redis, and still in use: run `parley {command}`"
        log.error("the setup is gone from Redis, and still in use", run=f"parley {command}")


def _whole(given: Given, kept: KeptSetup | None) -> InUse:
    """Complete a setup by the settings. Raises SettingsError when they can't be used together."""
    settings = given.settings(kept.values if kept is not None else {})
    version = kept.version if kept is not None else 0
    return InUse(settings, version, wanted_instance(settings), message_template(settings))
