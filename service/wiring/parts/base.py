"""What every process has, whatever its role, built whole before anything of it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from service.connector.client import Connector
from service.connector.provisioning import Provisioner
from service.connector.watching import InstanceWatch, Turn
from service.core.sealing import Sealer
from service.core.tally import Figures
from service.host.crowd import CONNECTIONS_LIMIT, Crowd
from service.host.descriptors import needed_for, usable
from service.operate.clients import access_of, connector_of, kept_private
from service.operate.clocks import Clocks
from service.operate.deployment import Deployment
from service.operate.files import message_template
from service.settings.setup import Given
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.client import Redis
from service.store.connection import connect
from service.store.instances import Instances
from service.store.setups import Setups
from service.wiring.parts.redis_watch import RedisWatch
from service.wiring.parts.setup import InUse, SetupWatch
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

    settings: as far as they are given; of what a setup may hold, `setup` knows what is in use.
    deployment: as operators work on it. client: Redis.
    stop: whether it is to stop. tasks: keeps what runs here running.
    instance: the watch over the connector's instance. redis: the watch over Redis.
    setup: the watch over the setup.
    callers: the connections of the public listener; a process without a door has none.
    visitors: those of the internal one.
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
    setup: SetupWatch
    callers: Crowd
    visitors: Crowd


def build_base(given: Given, redis_url: str, stop: Stop) -> Base:
    """Build what every process has; nothing is connected yet.

    Raises SettingsError when a file that the settings name can't be used.
    """
    settings = given.partial()
    clocks = Clocks()
    client = connect(redis_url)
    batch = Batch(client)
    connector = connector_of(settings, message_template(settings), clocks)
    sealer = Sealer(settings.secret_keys)
    # What it is to provision is known once it was looked whether there is a setup.
    instance = InstanceWatch(
        None,
        connector,
        watch_s=settings.connector_watch_s,
        repair=settings.connector_repair == "repair",
    )
    redis = RedisWatch(settings, client, batch, clocks, stop)
    setup = SetupWatch(given, Setups(client, sealer), redis.opened)

    def turn_instance(in_use: InUse) -> None:
        connector.keep_private(*kept_private(in_use.settings))
        still_wanted = partial(setup.still_in_use, in_use.version)
        store = Instances(client, sealer)
        provisioner = Provisioner(connector, store, sealer, in_use.wanted, still_wanted)
        instance.turn_to(Turn(access_of(in_use.settings), in_use.message, provisioner))

    setup.follow(turn_instance)
    return Base(
        settings=settings,
        deployment=Deployment(settings, redis_url, given),
        stop=stop,
        tasks=Tasks(stop.fail),
        clocks=clocks,
        client=client,
        batch=batch,
        connector=connector,
        instance=instance,
        redis=redis,
        setup=setup,
        callers=Crowd(_room_for_callers(settings)),
        visitors=Crowd(INTERNAL_CONNECTIONS),
    )


def _room_for_callers(settings: Settings) -> int:
    """Say how many connections of callers there may be, with a reserve for all our own."""
    own = settings.send_concurrency + settings.handler_concurrency + INTERNAL_CONNECTIONS
    return max(LEAST_CONNECTIONS, min(CONNECTIONS_LIMIT, usable() - needed_for(own, callers=0)))
