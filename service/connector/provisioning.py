"""Sees to it that the connector has our instance, and that we have its token."""

from __future__ import annotations

import asyncio
import json
import random
import traceback
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from service.connector.client import Connector
from service.core import connector_wire as wire
from service.core.retry import Schedule
from service.core.sealing import Sealer
from service.core.templates import Template
from service.errors import ConnectorError, ConnectorForbidden, ParleyError, SettingsError
from service.model import Instance

log = structlog.get_logger()

PASSING = Schedule(first_ms=500, longest_ms=30_000, attempts=1)
"""Waits while the connector or Redis is away; the attempts don't count, it goes on for ever."""

LASTING = Schedule(first_ms=30_000, longest_ms=300_000, attempts=1)
"""Waits while the connector refuses us: somebody has to mend a setting or an account."""

INSTANCE_NAMES = frozenset(
    {
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_SENDER",
        "CALLBACK_URL",
        "INSTANCE_NAME",
        "INSTANCE_TAG",
    }
)
"""Placeholders of `config/instance.json`."""


class InstanceStore(Protocol):
    """Where the instance is kept: `service.store.instances.Instances`."""

    async def load(self) -> Instance | None:
        """Return the instance kept, None when there is none yet."""

    async def save(self, instance: Instance) -> None:
        """Keep the instance."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Let one process at a time provision."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The instance we want: the body of POST /instances, filled. Its token stays out of reprs."""

    body: Mapping[str, Any]

    @classmethod
    def build(cls, template: Template, values: Mapping[str, str], place: str) -> Wanted:
        """Fill `config/instance.json`.

        place: the file, for errors. Raises SettingsError naming every required entry that is
            missing and a callback URL that is none, before anything is asked of the connector.
        """
        body = template.fill(values)
        missing = wire.missing_entries(body)
        if missing:
            raise SettingsError(
                [f"{place}: the required entry {each} is missing" for each in missing]
            )
        try:
            url = wire.clean_callback_url(str(body["configuration"][wire.CALLBACK_URL]))
        except ValueError as error:
            raise SettingsError(
                [f"{place}: {wire.CALLBACK_URL} (setting PUBLIC_URL) {error}"]
            ) from error
        return cls({**body, "configuration": {**body["configuration"], wire.CALLBACK_URL: url}})

    def __repr__(self) -> str:
        return f"Wanted(name={self.body['name']!r})"

    @property
    def callback_url(self) -> str:
        """The URL registered for inbound texts."""
        return str(self.body["configuration"][wire.CALLBACK_URL])


class Provisioner:
    """Provisions the instance and hands its token to the connector client.

    ready: set while there is a token to send with. state: how it stands, a sentence for /readyz.
    """

    def __init__(
        self, connector: Connector, store: InstanceStore, sealer: Sealer, wanted: Wanted
    ) -> None:
        self._connector = connector
        self._store = store
        self._wanted = wanted
        self._fingerprint = sealer.fingerprint(json.dumps(wanted.body, sort_keys=True))
        self.ready = asyncio.Event()
        self.state = "provisioning"

    async def run(self) -> None:
        """Provision, however long it takes; returns when it is done."""
        attempt = 0
        while True:
            attempt += 1
            try:
                instance = await self.ensure()
            except ParleyError as error:
                wait_ms = _wait_ms(error, attempt)
                self.state = f"the instance is not provisioned yet: {error}"
                log.warning(
                    "the instance is not provisioned yet", error=str(error), again_in_ms=wait_ms
                )
                await asyncio.sleep(wait_ms / 1000)
            except Exception as error:  # noqa: BLE001  (named below)
                # A defect, or an answer nobody thought of: replies wait, but nothing ends unheard.
                wait_ms = LASTING.wait_ms(attempt, random.random())  # noqa: S311  (jitter)
                what = _name_defect(error)
                self.state = f"the instance is not provisioned yet: {what}"
                log.error("provisioning failed unexpectedly", error=what, again_in_ms=wait_ms)
                await asyncio.sleep(wait_ms / 1000)
            else:
                self._connector.use_token(instance.token)
                self.state = f"instance {instance.id}"
                self.ready.set()
                return

    async def ensure(self) -> Instance:
        """Return the instance we want, from Redis, or updated, or new.

        Raises ConnectorError, StoreUnavailable, SettingsError.
        """
        async with self._store.lock():
            stored = await self._store.load()
            if stored is not None and await self._is_alive(stored):
                if stored.fingerprint == self._fingerprint:
                    log.info(
                        "instance reused", instance=stored.id, callback_url=stored.callback_url
                    )
                    return stored
                await self._connector.update_instance(stored.id, self._wanted.body)
                instance = self._describe(stored.id, stored.token)
                log.info("instance updated", instance=stored.id, callback_url=instance.callback_url)
            else:
                await self._report_others()
                created = await self._connector.create_instance(self._wanted.body)
                instance = self._describe(created.id, created.token)
                log.info(
                    "instance created", instance=created.id, callback_url=instance.callback_url
                )
            await self._store.save(instance)
            return instance

    async def _report_others(self) -> None:
        """Look before creating: POST /instances may have succeeded although no answer came."""
        tags = self._wanted.body.get("tags") or ()
        for tag in tags:
            others = await self._connector.find_instances(str(tag))
            if others:
                log.warning(
                    "the connector has other instances with our tag; remove what is not in use",
                    tag=tag,
                    instances=[other.id for other in others],
                )

    async def _is_alive(self, stored: Instance) -> bool:
        # Wrong secrets are a 401 here and end up as an error, never as another instance.
        found = await self._connector.get_instance(stored.id)
        if found is None:
            log.warning("the connector does not know our instance any more", instance=stored.id)
        return found is not None and not found.disabled

    def _describe(self, id_: str, token: str) -> Instance:
        return Instance(
            id=id_,
            token=token,
            name=str(self._wanted.body["name"]),
            tags=tuple(self._wanted.body.get("tags") or ()),
            callback_url=self._wanted.callback_url,
            fingerprint=self._fingerprint,
        )


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
