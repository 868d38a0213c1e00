"""The clients that both the running service and single commands are built on.

The connector's is imported where it is built: its HTTP is a third of what a command that only asks
Redis would import.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from service.errors import SettingsError
from service.operate.clocks import Clocks
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.client import Redis
from service.store.durability import DurabilityVerdict, look
from service.store.inbox import Inbox
from service.store.watermark import Watermark

if TYPE_CHECKING:
    from service.connector.backfill import Backfill
    from service.connector.client import Connector
    from service.connector.peer import Access
    from service.core.open_connectors.templates import Template

SPARE_CONNECTIONS = 4
"""Connections to the connector beside the replies': provisioning and looks into its log."""


def connector_of(settings: Settings, message: Template, clocks: Clocks | None = None) -> Connector:
    """Build the client of the connector; it has no token yet.

    clocks: of the process, where there is one that keeps them. Raises SettingsError when the
        authorities' file, which could be read at the start, can't be any more.
    """
    from service.connector.client import Connector

    clocks = clocks or Clocks()
    return Connector(
        access_of(settings) if settings.open_connectors_base_url else None,
        message=message,
        timeout_s=settings.send_timeout_s,
        connections=settings.send_concurrency + SPARE_CONNECTIONS,
        secrets=kept_private(settings),
        clock=clocks.connector,
        otherwise=clocks.redis,
        tls=_tls(settings.connector_ca_file),
    )


def access_of(settings: Settings) -> Access:
    """Say where the connector is, and who we are there."""
    from service.connector.peer import Access

    return Access(
        settings.open_connectors_base_url,
        settings.open_connectors_user_secret.get_secret_value(),
        settings.open_connectors_organization_secret.get_secret_value(),
        settings.connector_proxy,
    )


def kept_private(settings: Settings) -> tuple[str, ...]:
    """Return the secrets that no error may quote, besides those that requests carry."""
    return (*settings.auth_tokens, *settings.shared_keys.values(), settings.event_key)


def _tls(authorities: str | None) -> ssl.SSLContext | None:
    if authorities is None:
        return None
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise SettingsError([f"CONNECTOR_CA_FILE can't be read: {authorities}: {error}"]) from error


def backfill_of(
    settings: Settings,
    client: Redis,
    batch: Batch,
    connector: Connector,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Backfill:
    """Build what reads missed texts back. now: when they count as received."""
    from service.connector.backfill import Backfill

    inbox = Inbox(
        batch,
        partitions=settings.partitions,
        window_s=settings.dedupe_window_s,
        # The rest is for callbacks: thousands of missed texts must not have new ones turned away.
        limit=max(1, settings.inbox_limit // 2),
    )
    return Backfill(
        connector,
        inbox,
        Watermark(client),
        account=settings.twilio_account_sid,
        sender=settings.twilio_sender,
        overlap=timedelta(seconds=settings.backfill_overlap_s),
        longest=timedelta(seconds=settings.backfill_max_s),
        now=now,
    )


async def look_at(client: Redis, settings: Settings) -> DurabilityVerdict:
    """Look whether Redis can keep what DURABILITY promises."""
    return await look(
        client,
        settings.durability,
        replicas=settings.replicas,
        replica_timeout_s=settings.replica_timeout_s,
    )
