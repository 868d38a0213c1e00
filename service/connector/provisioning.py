"""Sees to it that the connector has our instance, and that we have its token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from service.connector.adopting import (
    Candidate,
    Takeover,
    find_adoptable,
    find_takeable,
    let_go,
    list_candidates,
)
from service.connector.client import Connector
from service.connector.formulas import Formulas, find_formulas, warn_of_formulas
from service.core.masking import MASK, mask_login
from service.core.open_connectors import wire
from service.core.open_connectors.elements import element_of, is_secret
from service.core.open_connectors.plan import (
    Plan,
    make_plan,
    wanted_tags,
)
from service.core.open_connectors.templates import Template
from service.core.open_connectors.wire import InstanceAnswer
from service.core.sealing import Sealer
from service.errors import ConnectorError, ConnectorForbidden, SettingsError, StoreError
from service.model import Instance

log = structlog.get_logger()

NOT_FOUND = 404

INSTANCE_NAMES = frozenset(
    {
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_SENDER",
        "CALLBACK_URL",
        "EVENT_SIGNATURE_KEY",
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

    async def note_look(self, did: str) -> None:
        """Note that the instance was looked at, and what was done to it."""

    async def forget(self) -> None:
        """Forget the instance."""

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
        entry = element_of(body).callback_url
        try:
            url = wire.clean_callback_url(str(body["configuration"][entry]))
        except ValueError as error:
            raise SettingsError([f"{place}: {entry} (setting PUBLIC_URL) {error}"]) from error
        return cls({**body, "configuration": {**body["configuration"], entry: url}})

    def __repr__(self) -> str:
        return f"Wanted(name={self.body['name']!r})"

    @property
    def callback_url(self) -> str:
        """The URL registered for inbound texts, as it may be shown: without its login."""
        return mask_login(str(self.body["configuration"][element_of(self.body).callback_url]))


async def _always() -> None:
    """Want the same for good."""


class Provisioner:
    """Compares the instance with what is wanted, and does what is asked for, once.

    Whatever changes the instance here or at the connector runs under the store's lock.
    still_wanted: asked with the lock, before `ensure`, `replace`, `take` and `remove` change
        anything; raises ParleyError when something else is wanted by now. Another process may know
        that already, and have seen to it while this one waited for the lock.
    """

    def __init__(
        self,
        connector: Connector,
        store: InstanceStore,
        sealer: Sealer,
        wanted: Wanted,
        still_wanted: Callable[[], Awaitable[None]] = _always,
    ) -> None:
        self._connector = connector
        self._still_wanted = still_wanted
        self._store = store
        self._sealer = sealer
        self._wanted = wanted
        connector.keep_private(*wire.private_entries(wanted.body))

    async def plan(self) -> Plan:
        """Compare what is wanted with what the connector has; changes nothing.

        Raises ConnectorError, StoreUnavailable, SettingsError.
        """
        stored = await self.stored()
        _, plan = await self._compare(stored)
        return plan

    async def ensure(self) -> Instance:
        """Return the instance we want: as it is, put right, adopted or new.

        Raises ConnectorError, StoreUnavailable, SettingsError; LockLost when another process may
            be at it as well.
        """
        async with self._store.lock():
            await self._still_wanted()
            stored = await self.stored()
            found, plan = await self._compare(stored)
            if not plan and stored is not None:
                log.info("instance reused", instance=stored.id, callback_url=stored.callback_url)
                if stored.fingerprint != self._fingerprint:
                    stored = self._describe(stored.id, stored.token)
                    await self._store.save(stored)
                await self.note_look()
                return stored
            for line in plan.lines():
                log.info("plan", step=line)
            instance = await self._apply(plan, stored, found)
            await self._store.save(instance)
            await self.note_look(plan.brief())
            if stored is not None and stored.id != instance.id:
                await warn_of_formulas(self._connector, stored.id, instance.id)
            return instance

    async def replace(self, unfit: Instance | None = None) -> Instance:
        """Make a new instance, use it from now on, and delete the one before.

        unfit: replaced only if it is still ours; else another process was quicker, and what it
            made is returned.
        Replies meanwhile are refused with the old token, wait, and are sent with the new one.
        Raises as `ensure`.
        """
        async with self._store.lock():
            await self._still_wanted()
            stored = await self.stored()
            if unfit is not None and stored != unfit:
                return stored or unfit
            return await self._replace(stored, unasked=unfit is not None)

    async def candidates(self) -> list[Candidate]:
        """List the instances of our connector, ours among them. Raises as `plan`."""
        stored = await self.stored()
        return await list_candidates(
            self._connector, self._wanted.body, stored.id if stored is not None else ""
        )

    async def plan_take(self, id_: str) -> Plan:
        """Plan to use an instance that was made elsewhere; changes nothing. Raises as `take`."""
        stored = await self.stored()
        _, plan = await find_takeable(self._connector, self._wanted.body, id_, stored)
        return plan

    async def take(self, id_: str) -> Takeover:
        """Use an instance that was made elsewhere, with its token, from now on.

        Our tag, name, callback URL and secrets are written to it. The one before stays at the
        connector, with its token, so that replies go on until every process knows of this one.
        Raises UsageError for one that can't be taken; else as `ensure`.
        """
        async with self._store.lock():
            await self._still_wanted()
            stored = await self.stored()
            found, plan = await find_takeable(self._connector, self._wanted.body, id_, stored)
            for line in plan.lines():
                log.info("plan", step=line)
            instance = await self._apply(plan, None, found)
            await self._store.save(instance)
            if stored is None:
                return Takeover(instance, "", untagged=True, formulas=Formulas(""))
            formulas = await find_formulas(self._connector, stored.id)
            untagged = await let_go(self._connector, self._wanted.body, stored.id)
            return Takeover(instance, stored.id, untagged=untagged, formulas=formulas)

    async def formulas(self) -> Formulas:
        """Find out which formulas use our instance. Raises StoreUnavailable."""
        stored = await self.stored()
        if stored is None:
            return Formulas("")
        return await find_formulas(self._connector, stored.id)

    async def current(self) -> tuple[Instance | None, InstanceAnswer | None]:
        """Return our instance as we kept it, and as the connector describes it, for people.

        Secrets are masked, whether the connector does so or not; addresses are without logins.
        """
        stored = await self.stored()
        found = None if stored is None else await self._connector.get_instance(stored.id)
        if found is not None:
            known = wire.secrets_of(self._wanted.body)
            shown = {
                entry: MASK if value and is_secret(entry, value, known) else mask_login(value)
                for entry, value in found.configuration.items()
            }
            found = replace(found, configuration=shown)
        return stored, found

    async def describe(self) -> Any:
        """Return our instance's own API description. Raises SettingsError without an instance."""
        return await self._connector.describe_instance((await self.kept()).id)

    async def switch(self, *, on: bool) -> str:
        """Enable or disable our instance; returns its id. Raises SettingsError without one."""
        instance = await self.kept()
        await self._connector.enable_instance(instance.id, on=on)
        return instance.id

    async def remove(self) -> str:
        """Delete our instance and forget it; returns its id. Raises SettingsError without one."""
        async with self._store.lock():
            await self._still_wanted()
            instance = await self.kept()
            try:
                await self._connector.delete_instance(instance.id)
            except ConnectorError as error:
                if error.status != NOT_FOUND:
                    raise
            await self._store.forget()
            return instance.id

    async def forget(self) -> None:
        """Forget our instance here, also one whose token no SECRET_KEY opens.

        It stays at the connector, where the next `ensure` finds it by its tag. Raises
        StoreUnavailable.
        """
        async with self._store.lock():
            await self._store.forget()

    async def rekey(self) -> str:
        """Seal the token with the first SECRET_KEY; returns the instance's id."""
        async with self._store.lock():
            instance = await self.kept()
            known = instance.fingerprint in self._fingerprints
            fingerprint = self._fingerprint if known else ""
            await self._store.save(replace(instance, fingerprint=fingerprint))
            return instance.id

    @property
    def _element(self) -> str:
        return str(self._wanted.body["element"]["key"])

    @property
    def _fingerprint(self) -> str:
        return self._fingerprints[0]

    @property
    def _fingerprints(self) -> tuple[str, ...]:
        """Ours by every key, the present one's first: "<all of it>.<its secrets>"."""
        whole = self._sealer.fingerprints(json.dumps(self._wanted.body, sort_keys=True))
        secrets = self._sealer.fingerprints(json.dumps(sorted(wire.secrets_of(self._wanted.body))))
        return tuple(f"{one}.{other}" for one, other in zip(whole, secrets, strict=True))

    async def note_look(self, did: str = "") -> None:
        """Note that the instance was looked at, and what was done; it holds nothing up."""
        with suppress(StoreError):
            await self._store.note_look(did)

    async def stored(self) -> Instance | None:
        """Return our instance as we kept it, None without one; its token stays out of errors."""
        stored = await self._store.load()
        if stored is not None:
            self._connector.keep_private(stored.token)
        return stored

    async def kept(self) -> Instance:
        """Return our instance as we kept it. Raises SettingsError without one."""
        instance = await self.stored()
        if instance is None:
            raise SettingsError(["there is no instance in this Redis; see `parley connector plan`"])
        return instance

    async def _compare(self, stored: Instance | None) -> tuple[InstanceAnswer | None, Plan]:
        # Wrong secrets are a 401 here and end up as an error, never as another instance.
        found = None if stored is None else await self._connector.get_instance(stored.id)
        if stored is not None and found is None:
            log.warning("the connector does not know our instance any more", instance=stored.id)
        if found is not None and found.element not in {self._element, ""}:
            log.warning(
                "our instance is of another connector; another takes its place",
                instance=found.id,
                element=found.element,
            )
            found = None
        adopted = found is None
        if found is None:
            found = await find_adoptable(self._connector, self._wanted.body)
        kept = stored.fingerprint.split(".") if stored is not None else []
        ours = [fingerprint.split(".") for fingerprint in self._fingerprints]
        plan = make_plan(
            self._wanted.body,
            found,
            adopted=adopted and found is not None,
            token=stored.token if stored is not None else "",
            rest_known=any(kept[:1] == each[:1] for each in ours),
            secrets_known=any(kept[1:] == each[1:] or kept[:1] == each[:1] for each in ours),
        )
        return found, plan

    async def _apply(
        self, plan: Plan, stored: Instance | None, found: InstanceAnswer | None
    ) -> Instance:
        id_ = found.id if found is not None else ""
        token = (found.token if found is not None else "") or (stored.token if stored else "")
        for step in plan.steps:
            if step.kind == "create":
                created = await self._connector.create_instance(self._wanted.body)
                id_, token = created.id, created.token
                log.info("instance created", instance=id_, callback_url=self._wanted.callback_url)
            elif step.kind == "enable":
                await self._connector.enable_instance(id_, on=True)
                log.info("instance enabled", instance=id_)
            elif step.kind == "update":
                tags = wanted_tags(self._wanted.body, found.tags if found is not None else ())
                await self._connector.update_instance(id_, {**self._wanted.body, "tags": tags})
                log.info("instance updated", instance=id_, callback_url=self._wanted.callback_url)
            elif step.kind in {"adopt", "take"}:
                what = "instance adopted" if step.kind == "adopt" else "instance taken over"
                log.info(what, instance=id_, callback_url=self._wanted.callback_url)
            else:
                log.info("the instance has a new token", instance=id_)
        return self._describe(id_, token)

    async def _replace(self, stored: Instance | None, *, unasked: bool) -> Instance:
        created = await self._connector.create_instance(self._wanted.body)
        instance = self._describe(created.id, created.token)
        await self._store.save(instance)
        log.info("instance created", instance=instance.id, callback_url=instance.callback_url)
        if stored is not None:
            if unasked:
                await self.note_look(f"replaced instance {stored.id}, whose token was refused")
                await warn_of_formulas(self._connector, stored.id, instance.id)
            with suppress(ConnectorForbidden):
                await self._connector.delete_instance(stored.id)
            log.info("instance deleted", instance=stored.id)
            # In case the connector took the number's callback away with the former one.
            await self._connector.update_instance(instance.id, self._wanted.body)
        return instance

    def _describe(self, id_: str, token: str) -> Instance:
        return Instance(
            id=id_,
            token=token,
            name=str(self._wanted.body["name"]),
            tags=tuple(self._wanted.body.get("tags") or ()),
            callback_url=self._wanted.callback_url,
            fingerprint=self._fingerprint,
        )
