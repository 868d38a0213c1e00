"""What single commands need of a deployment: its Redis, its instance, its message log."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from service.connector.backfill import Backfill
from service.connector.provisioning import Provisioner
from service.core.sealing import Sealer
from service.core.signature_hints import Explanation, explain
from service.core.template_check import Comparison, compare
from service.errors import ConnectorError, ConnectorFailed, SettingsError
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.connection import Redis, connect
from service.store.embedded import EmbeddedRedis
from service.store.instances import Instances
from service.store.layout import claim_partition_count
from service.wiring.clients import backfill_of, connector_of, look_at
from service.wiring.files import message_template, wanted_instance


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[tuple[Redis, Batch]]:
    """Open the deployment's Redis for a command.

    Without REDIS_URL that is the embedded one: the running service's, or, if none runs, one
    started for the time being. Raises SettingsError, StoreUnavailable, StoreMismatch.
    """
    embedded = None
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    if not url:
        embedded = EmbeddedRedis(settings.data_dir, settings.config_dir / "redis.conf")
        url = embedded.url
        if embedded.answers():
            embedded = None
        else:
            embedded.start()
    client = connect(url)
    batch = Batch(client)
    try:
        batch.confirm((await look_at(client, settings)).confirmations)
        await claim_partition_count(client, settings.partitions)
        yield client, batch
    finally:
        await batch.aclose()
        await client.aclose()
        if embedded is not None:
            embedded.stop()


@asynccontextmanager
async def open_provisioner(settings: Settings) -> AsyncIterator[Provisioner]:
    """Open what looks after the connector's instance, for a command.

    Raises SettingsError, StoreUnavailable, StoreMismatch.
    """
    wanted, message = wanted_instance(settings), message_template(settings)
    sealer = Sealer(settings.secret_keys)
    async with open_store(settings) as (client, _):
        connector = connector_of(settings, message)
        try:
            yield Provisioner(connector, Instances(client, sealer), sealer, wanted)
        finally:
            await connector.aclose()


@asynccontextmanager
async def open_backfill(settings: Settings) -> AsyncIterator[Backfill]:
    """Open what reads missed texts back, for a command.

    Raises SettingsError without an instance in Redis, StoreUnavailable, StoreMismatch.
    """
    message, sealer = message_template(settings), Sealer(settings.secret_keys)
    async with open_store(settings) as (client, batch):
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


async def check_message(settings: Settings) -> tuple[str, Comparison]:
    """Compare the reply's template with what our instance says of its own API; sends nothing.

    Returns the template's file, and what was found. Raises ConnectorError, and as
        `open_provisioner`.
    """
    template = message_template(settings)
    async with open_provisioner(settings) as provisioner:
        found = compare(template.fields, await provisioner.describe())
    if found is None:
        raise ConnectorFailed("the instance's API description has no fields for POST /messages")
    return template.place, found


def explain_signature(
    url: str,
    body: bytes,
    signature: str,
    tokens: Sequence[str],
    *,
    signed_with: str | None,
    shared_keys: Mapping[str, str],
) -> Explanation:
    """Tell why a signature does not match; see `service.core.signature_hints.explain`."""
    return explain(url, body, signature, tokens, signed_with=signed_with, shared_keys=shared_keys)
