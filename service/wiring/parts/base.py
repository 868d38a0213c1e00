"""What every process has, whatever its role, built whole before anything of it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from service.connector.client import Connector
from service.connector.provisioning import Provisioner
from service.connector.watching import InstanceWatch
from service.core.sealing import Sealer
from service.core.tally import Figures
from service.host.crowd import CONNECTIONS_LIMIT, Crowd
from service.host.descriptors import needed_for, usable
from service.operate.clients import connector_of
from service.operate.clocks import Clocks
from service.operate.deployment import Deployment
from service.operate.files import message_template, wanted_instance
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.client import Redis
from service.store.connection import connect
from service.store.instances import Instances
from service.wiring.parts.redis_watch import RedisWatch
from service.wiring.stopping import Stop
from service.workers.supervised import Tasks

LEAST_CONNECTIONS = 50
"""Of callers, however few files may be open: the start has said that they are too few."""

INTERNAL_CONNECTIONS = 100
"""Of probes, people and collectors of metrics, in one process."""


class Part(Protocol):
    """What a process has beside its base; by its role, it has a part or does without."""

    def start(self) -> asyncio.Task[None]:
        """Begin its task."""

    def figures(self) -> Figures:
        """Return what it has counted, for /metrics."""

    def counters(self) -> Mapping[str, int]:
        """Return what it has counted, for /counters."""


@dataclass(frozen=True, slots=True)
class Base:
    """What every process has.

    stop: whether it is to stop. tasks: keeps what runs here running. client: Redis.
    instance: the watch over the connector's instance. redis: the watch over Redis.
    callers: the connections of the public listener; a process without a door has none.
    visitors: those of the internal one.
    deployment: as operators work on it.
    """

    settings: Settings
    deployment: Deployment
    stop: Stop
    tasks: Tasks
    clocks: Clocks
    client: Redis
    batch: Batch
    connector: Connector
    instance: InstanceWatch
    redis: RedisWatch
    callers: Crowd
    visitors: Crowd


def build_base(settings: Settings, redis_url: str, stop: Stop) -> Base:
    """Build what every process has; nothing is connected yet.

    Raises SettingsError when a file that the settings name can't be used.
    """
    wanted, message = wanted_instance(settings), message_template(settings)
    clocks = Clocks()
    client = connect(redis_url)
    batch = Batch(client)
    connector = connector_of(settings, message, clocks)
    sealer = Sealer(settings.secret_keys)
    return Base(
        settings=settings,
        deployment=Deployment(settings, redis_url),
        stop=stop,
        tasks=Tasks(stop.fail),
        clocks=clocks,
        client=client,
        batch=batch,
        connector=connector,
        instance=InstanceWatch(
            Provisioner(connector, Instances(client, sealer), sealer, wanted),
            connector,
            watch_s=settings.connector_watch_s,
            repair=settings.connector_repair == "repair",
        ),
        redis=RedisWatch(settings, client, batch, clocks, stop),
        callers=Crowd(_room_for_callers(settings)),
        visitors=Crowd(INTERNAL_CONNECTIONS),
    )


def _room_for_callers(settings: Settings) -> int:
    """Say how many connections of callers there may be, with a reserve for all our own."""
    own = settings.send_concurrency + settings.handler_concurrency + INTERNAL_CONNECTIONS
    return max(LEAST_CONNECTIONS, min(CONNECTIONS_LIMIT, usable() - needed_for(own, callers=0)))
