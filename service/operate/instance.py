"""The deployment's instance at the connector, and its message log, as an operator works on them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.connector.backfill import Backfill
from service.connector.client import Connector
from service.connector.provisioning import Provisioner
from service.core.open_connectors.template_check import Comparison, compare
from service.core.sealing import Sealer
from service.errors import (
    ConnectorError,
    ConnectorFailed,
    SettingsError,
    SetupChanged,
    UsageError,
)
from service.model import Instance
from service.operate.clients import backfill_of, connector_of
from service.operate.deployment import Deployment, open_store
from service.operate.files import message_template, wanted_instance
from service.settings.table import Settings
from service.store.instances import Instances
from service.store.setups import Setups


@asynccontextmanager
async def open_provisioner(
    deployment: Deployment, seen: str | None = None
) -> AsyncIterator[Provisioner]:
    """Open what looks after the connector's instance.

    seen: id of the one that was looked at, "" where there was none; what changes an instance then
        raises UsageError where another one is in use. It raises SetupChanged where the setup is
        another one by then.
    Raises SettingsError, StoreUnavailable, StoreMismatch.
    """
    async with _open_connector(deployment, seen) as (_, provisioner, _):
        yield provisioner


@asynccontextmanager
async def open_instance(deployment: Deployment) -> AsyncIterator[tuple[Connector, Instance]]:
    """Open the connector as our instance, with its token.

    Raises SettingsError without an instance in Redis, StoreUnavailable, StoreMismatch.
    """
    async with open_instance_of(deployment) as (connector, instance, _):
        yield connector, instance


@asynccontextmanager
async def open_instance_of(
    deployment: Deployment,
) -> AsyncIterator[tuple[Connector, Instance, Settings]]:
    """Open the same, with the settings that are in use. Raises as `open_instance`."""
    async with _open_connector(deployment) as (connector, provisioner, settings):
        instance = await provisioner.kept()
        connector.use_token(instance.token)
        yield connector, instance, settings


@asynccontextmanager
async def _open_connector(
    deployment: Deployment, seen: str | None = None
) -> AsyncIterator[tuple[Connector, Provisioner, Settings]]:
    sealer = Sealer(deployment.settings.secret_keys)
    async with open_store(deployment) as (client, _):
        setups, instances = Setups(client, sealer), Instances(client, sealer)
        version = await setups.version()

        async def still_so() -> None:
            """Asked once nobody else changes anything."""
            if await setups.version() != version:
                raise SetupChanged("the setup has changed meanwhile; look again, and do it then")
            stored = await instances.load() if seen is not None else None
            require_seen(stored, seen)

        settings = await deployment.settings_in_use(client)
        wanted, message = wanted_instance(settings), message_template(settings)
        connector = connector_of(settings, message)
        provisioner = Provisioner(connector, instances, sealer, wanted, still_so)
        try:
            yield connector, provisioner, settings
        finally:
            await connector.aclose()


def require_seen(stored: Instance | None, seen: str | None) -> None:
    """Raise UsageError unless the instance in use is the one that somebody has seen, if they say.

    stored: the one in use. seen: its id, "" where there was none.
    """
    there = stored.id if stored is not None else ""
    if seen not in {None, there}:
        now = f"instance {there} is in use now" if there else "there is no instance any more"
        raise UsageError(f"{now}; look at it again before you do that")


@asynccontextmanager
async def open_backfill(deployment: Deployment) -> AsyncIterator[Backfill]:
    """Open what reads missed texts back.

    Raises SettingsError without an instance in Redis, StoreUnavailable, StoreMismatch.
    """
    sealer = Sealer(deployment.settings.secret_keys)
    async with open_store(deployment) as (client, batch):
        settings = await deployment.settings_in_use(client)
        message = message_template(settings)
        instance = await Instances(client, sealer).load()
        if instance is None:
            raise SettingsError(["there is no instance in this Redis; see `parley connector plan`"])
        connector = connector_of(settings, message)
        connector.use_token(instance.token)
        try:
            with contextlib.suppress(ConnectorError):
                # Whatever it answers tells what its clock shows, which the log is dated by.
                await connector.ping()
            yield backfill_of(settings, client, batch, connector)
        finally:
            await connector.aclose()


async def check_message(deployment: Deployment) -> tuple[str, Comparison]:
    """Compare the reply's template with what our instance says of its own API; sends nothing.

    Returns the template's file, and what was found. Raises ConnectorError, and as
        `open_provisioner`.
    """
    async with _open_connector(deployment) as (_, provisioner, settings):
        template = message_template(settings)
        found = compare(template.fields, await provisioner.describe())
    if found is None:
        raise ConnectorFailed("the instance's API description has no fields for POST /messages")
    return template.place, found
