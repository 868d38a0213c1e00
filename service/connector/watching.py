"""Watches over our instance while the service runs: has it looked at, and repaired or reported."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from service.connector.client import Connector
from service.connector.provisioning import Provisioner
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


class InstanceWatch:
    """Has the instance provisioned and looked at, and hands its token to the connector client.

    ready: set while there is a token to send with. state: how it stands, a sentence for /readyz.
    watch_s: seconds between two looks. repair: put right what has changed behind our back; without
        it, it is reported and left.
    """

    def __init__(
        self,
        provisioner: Provisioner,
        connector: Connector,
        *,
        watch_s: float = 180,
        repair: bool = True,
    ) -> None:
        self._provisioner = provisioner
        self._connector = connector
        self._watch_s = watch_s
        self._repair = repair
        self._suspected = asyncio.Event()
        self._unfounded = 0
        self._in_vain: set[str] = set()
        self._token = ""
        self._drift = ""
        self.ready = asyncio.Event()
        self.state = "provisioning"

    async def run(self) -> None:
        """Provision, however long it takes, then watch over the instance until cancelled."""
        await self._until_done(self._provisioner.ensure)
        while True:
            suspected = await self._wait()
            await self._until_done(self._suspicion if suspected else self._look)

    def suspect(self) -> None:
        """Hear that the connector refused the instance: replies wait until it was looked at."""
        self.ready.clear()
        self.state = "the connector refused the instance; it is being looked at"
        self._suspected.set()

    async def _wait(self) -> bool:
        """Wait for the next look; True when it was asked for."""
        try:
            async with asyncio.timeout(self._watch_s * random.uniform(0.9, 1.1)):  # noqa: S311
                await self._suspected.wait()
        except TimeoutError:
            return False
        # Refused again and again although nothing is wrong: look less and less often.
        await asyncio.sleep(min(60.0, 2.0**self._unfounded - 1))
        self._suspected.clear()
        return True

    async def _look(self) -> Instance:
        """Look at the instance in peace; put right what has changed, or report it."""
        if self._repair:
            return await self._provisioner.ensure()
        instance = await self._provisioner.kept()
        self._drift = ""
        plan = await self._provisioner.plan()
        self._drift = plan.summary()
        await self._provisioner.note_look()
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
            refused, instance = instance, await self._provisioner.replace(instance)
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
                self._token = instance.token
                self._connector.use_token(instance.token)
                self.state = f"instance {instance.id}"
                if self._drift:
                    self.state += f": {DRIFT}: {self._drift}"
                self.ready.set()
                return
            await asyncio.sleep(wait_ms / 1000)

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
