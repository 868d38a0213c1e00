"""A master dies and its replica takes over, under load: Redis Cluster and Sentinel."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
import redis

from tests.flow.fleet import Fleet
from tests.flow.redises import Foreign
from tests.redis_servers import DOWN_MS, cluster, sentinel

REPLICATED = {"DURABILITY": "replicated", "REPLICAS": "1"}
"""What is answered 200 is on the replica: the only promise a fail-over can't break."""


@pytest.mark.long
def test_a_cluster_whose_master_dies_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """A third of all conversations would be lost with one machine."""
    with cluster(3, 2, down_ms=DOWN_MS) as servers:

        def look() -> redis.RedisCluster:
            return redis.RedisCluster(host="127.0.0.1", port=servers.masters()[0].port)

        fleet = Fleet(tmp_path, Foreign(servers.url, look))
        fleet.settings |= REPLICATED

        async def faults(fleet: Fleet) -> None:
            await asyncio.sleep(1)
            servers.master_of("parley:{p00}:inbox").kill()
            await asyncio.to_thread(servers.wait_until_whole)

        try:
            fleet.start()
            fleet.run(faults, phones=50, texts=60, seed=11)
        finally:
            fleet.close()


@pytest.mark.long
def test_a_sentinel_fail_over_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The service would have to be restarted by hand to find the new master."""
    with sentinel() as watched:

        def look() -> redis.Redis:
            living = watched.master if watched.master.process.poll() is None else watched.replica
            return redis.Redis(port=living.port)

        fleet = Fleet(tmp_path, Foreign(watched.url, look))
        # With one replica there is none left to confirm once it is promoted. So instead of waiting
        # for confirmations, everything stands still until the replica has all there is.
        fleet.settings |= {"DURABILITY": "memory"}

        async def faults(fleet: Fleet) -> None:
            await asyncio.sleep(1)
            assert fleet.door is not None
            processes = (fleet.door, *fleet.workers)
            for process in processes:
                process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(watched.master.client.wait, 1, 1000)
            await asyncio.to_thread(watched.kill_master)
            for process in processes:
                process.send_signal(signal.SIGCONT)

        try:
            fleet.start()
            fleet.run(faults, phones=20, texts=60, seed=12)
        finally:
            fleet.close()
