"""Watches over our instance while the service runs: has it looked at, and repaired or reported."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from service.connector.client import Connector
from service.connector.peer import Access
from service.connector.provisioning import Provisioner
from service.core.open_connectors.templates import Template
from service.core.retry import Schedule
from service.errors import ConnectorError, ConnectorForbidden, ParleyError, SettingsError
from service.model import Instance

log = structlog.get_logger()

PASSING = Schedule(first_ms=500, longest_ms=30_000, attempts=1)
"""Waits while the connector or Redis is away; the attempts don't count, it goes on for ever."""

LASTING = Schedule(first_ms=30_000, longest_ms=300_000, attempts=1)
"""Waits while the connector refuses us: somebody has to mend a setting or an account."""

UNAUTHORIZED = 401

DRIFT = "the instance is not as it should be"
UNSEEN = "the instance can't be looked at"


@dataclass(frozen=True, slots=True)
class Turn:
    """What the watch is to turn to.

    message: template of a reply's body.
    """

    access: Access
    message: Template
    provisioner: Provisioner


class InstanceWatch:
    """Has the instance provisioned and looked at, and hands its token to the connector client.

    provisioner: None until `turn_to` tells of one; nothing is asked of the connector before.
    ready: set while there is a token to send with. state: how it stands, a sentence for /readyz.
    watch_s: seconds between two looks. repair: put right what has changed behind our back; without
        it, it is reported and left.
    """

    def __init__(
        self,
        provisioner: Provisioner | None,
        connector: Connector,
        *,
        watch_s: float = 180,
        repair: bool = True,
    ) -> None:
        self._provisioner = provisioner
        self._connector = connector
        self._watch_s = watch_s
        self._repair = repair
        self._next: Turn | None = None
        self._suspected = False
        self._turned, self._woken = asyncio.Event(), asyncio.Event()
        self._unfounded = 0
        self._in_vain: set[str] = set()
        self._token = ""
        self._drift = ""
        self.ready = asyncio.Event()
        self.state = "provisioning" if provisioner is not None else "waits for the setup"

    async def run(self) -> None:
        """Provision, however long it takes, then watch over the instance until cancelled."""
        while self._provisioner is None:
            await self._turned.wait()
            await self._take_turn()
        await self._until_done(self._provision)
        while True:
            suspected = await self._wait()
            await self._until_done(self._suspicion if suspected else self._look)

    def suspect(self) -> None:
        """Hear that the connector refused the instance: replies wait until it was looked at."""
        self.ready.clear()
        self.state = "the connector refused the instance; it is being looked at"
        self._suspected = True
        self._woken.set()

    def turn_to(self, turn: Turn) -> None:
        """Have another instance provisioned at once, or the same one changed.

        What is under way at the connector ends first: half of it done at one organization, and half
        at another, would leave instances behind at both.
        """
        self._next = turn
        self._turned.set()
        self._woken.set()

    async def _take_turn(self) -> bool:
        """Turn to what `turn_to` told last; False if it told nothing."""
        turn, self._next = self._next, None
        self._turned.clear()
        if turn is None:
            return False
        self._woken.clear()
        if not self._connector.reaches(turn.access):
            # Before the first wait: nothing is sent with a token of somewhere else.
            self.ready.clear()
            self._token = ""
            self.state = "provisioning"
        await self._connector.turn_to(turn.access, turn.message)
        self._provisioner = turn.provisioner
        self._suspected = False
        self._unfounded = 0
        self._drift = ""
        self._in_vain.clear()
        return True

    async def _wait(self) -> bool:
        """Wait for the next look; True when a refusal asks for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._watch_s * random.uniform(0.9, 1.1)):  # noqa: S311
                await self._woken.wait()
        if self._suspected:
            # Refused again and again although nothing is wrong: look less and less often.
            await self._pause(min(60.0, 2.0**self._unfounded - 1))
        suspected, self._suspected = self._suspected, False
        self._woken.clear()
        return suspected

    async def _pause(self, longest_s: float) -> None:
        """Pause, but for a turn, which is taken at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._turned.wait()

    @property
    def _present(self) -> Provisioner:
        assert self._provisioner is not None  # noqa: S101  (`run` waits for it)
        return self._provisioner

    async def _provision(self) -> Instance:
        return await self._present.ensure()

    async def _look(self) -> Instance:
        """Look at the instance in peace; put right what has changed, or report it."""
        if self._repair:
            return await self._present.ensure()
        instance = await self._present.kept()
        self._drift = ""
        plan = await self._present.plan()
        self._drift = plan.summary()
        await self._present.note_look()
        if plan.stops_replies:
            self.ready.clear()
            raise ConnectorForbidden(self._drift, advice="`parley connector apply` puts it right")
        if plan:
            log.error(DRIFT, plan=self._drift)
        return instance

    async def _suspicion(self) -> Instance:
        """Look at the instance after a refusal; it may not work although it looks right."""
        instance = await self._look()
        self._connector.use_token(instance.token)
        try:
            await self._connector.ping()
        except ConnectorForbidden as error:
            # Said by Twilio, it is about the account; said of the instance that a refused one was
            # replaced by, it is about neither: another one would be refused as well.
            provider = error.provider_message is not None
            in_vain = instance.id in self._in_vain
            if not self._repair or error.status != UNAUTHORIZED or provider or in_vain:
                raise
            log.warning("the instance's token is refused: it is replaced", instance=instance.id)
            refused, instance = instance, await self._present.replace(instance)
            if instance != refused:
                self._in_vain.add(instance.id)
        else:
            self._in_vain.discard(instance.id)
        # With the token that was refused, nothing is wrong that can be seen from here.
        same = instance.token == self._token
        self._unfounded = min(self._unfounded + 1, 6) if same else 0
        return instance

    async def _until_done(self, task: Callable[[], Awaitable[Instance]]) -> None:
        """Do it, however often it takes, and use the instance's token from then on."""
        attempt = 0
        while True:
            if await self._take_turn():
                attempt, task = 0, self._provision
            attempt += 1
            try:
                instance = await task()
            except ParleyError as error:
                wait_ms = _wait_ms(error, attempt)
                if self._drift:
                    # Somebody else puts it right, perhaps soon.
                    wait_ms = min(wait_ms, int(self._watch_s * 1000))
                self.state = f"{self._trouble}: {error}"
                if isinstance(error, ConnectorForbidden):
                    # Nothing here can mend that: whoever reads the log has to.
                    self.state += f" ({error.advice})"
                    log.error(
                        self._trouble, error=str(error), advice=error.advice, again_in_ms=wait_ms
                    )
                elif isinstance(error, SettingsError):
                    log.error(self._trouble, error=str(error), again_in_ms=wait_ms)
                else:
                    log.warning(self._trouble, error=str(error), again_in_ms=wait_ms)
            except Exception as error:  # noqa: BLE001  (named below)
                # A defect, or an answer nobody thought of: replies wait, but nothing ends unheard.
                wait_ms = LASTING.wait_ms(attempt, random.random())  # noqa: S311  (jitter)
                what = _name_defect(error)
                self.state = f"{self._trouble}: {what}"
                log.error("provisioning failed unexpectedly", error=what, again_in_ms=wait_ms)
            else:
                if self._next is not None:
                    continue  # The token is of what was wanted before.
                self._token = instance.token
                self._connector.use_token(instance.token)
                self.state = f"instance {instance.id}"
                if self._drift:
                    self.state += f": {DRIFT}: {self._drift}"
                self.ready.set()
                return
            await self._pause(wait_ms / 1000)

    @property
    def _trouble(self) -> str:
        if self._drift:
            return DRIFT
        return UNSEEN if self._token else "the instance is not provisioned yet"


def _name_defect(error: Exception) -> str:
    """Say what was raised and where; its text and its frames may hold secrets."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name} ({Path(frame.filename).name}:{frame.lineno})"


def _wait_ms(error: ParleyError, attempt: int) -> int:
    """Choose the wait after a failure: long when a person has to mend something first."""
    lasting = not error.retry or isinstance(error, ConnectorForbidden)
    schedule = LASTING if lasting else PASSING
    wait_ms = schedule.wait_ms(attempt, random.random())  # noqa: S311  (jitter)
    asked_s = error.retry_after_s if isinstance(error, ConnectorError) else None
    return max(wait_ms, int((asked_s or 0) * 1000))
