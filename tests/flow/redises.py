"""The Redis of a fleet, and what can befall it: one server, or a Cluster of three masters."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.redis_servers import DOWN_MS, Cluster, Server, cluster, single, wait_until

SAFE = ("--maxmemory-policy", "noeviction")

MASTERS = 3

A_MASTER_OF = "parley:{p00}:inbox"
"""The Cluster's master that is killed serves this key, and some five partitions more."""

DEMOTIONS = ((("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),)

REFUSALS = (
    (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    (
        ("CONFIG", "SET", "min-replicas-to-write", "9"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
)
"""How a Redis is made to refuse writes, and how it is mended."""

Commands = tuple[str, ...]


@dataclass
class Foreign:
    """A Redis that the test itself runs. look: opens a client that sees all of it."""

    url: str
    look: Callable[[], Any]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass
class One:
    """One server, which comes back on its append-only file."""

    server: Server
    settings: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[tuple[Commands, Commands], ...] = (*REFUSALS, *DEMOTIONS)

    @property
    def url(self) -> str:
        """Its REDIS_URL."""
        return self.server.url

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def look(self) -> redis.Redis:
        """Open a client."""
        return redis.Redis(port=self.server.port)

    def kill(self) -> None:
        """End it without a word."""
        self.server.kill()

    def start(self) -> None:
        """Start it on its file."""
        self.server.start_again()
        wait_until(self.server.client.ping, "Redis answers")

    def freeze(self) -> None:
        """Let it stand still."""
        self.server.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.server.process.send_signal(signal.SIGCONT)

    def tell(self, *commands: Commands) -> None:
        """Run commands in one connection."""
        with redis.Redis(port=self.server.port) as client:
            for command in commands:
                client.execute_command(*command)


@dataclass
class Many:
    """A Cluster of three masters with a replica each.

    Killed is a master: its replica is promoted, and it comes back as the replica's. What is
    answered 200 is on both (`DURABILITY=replicated`), so nothing goes with it. Between the two
    its partitions take nothing.
    """

    servers: Cluster
    settings: Mapping[str, str] = field(
        default_factory=lambda: {"DURABILITY": "replicated", "REPLICAS": "1"}
    )
    # A node of a Cluster can't be told whose replica it is in this way.
    refusals: tuple[tuple[Commands, Commands], ...] = REFUSALS
    _killed: Server | None = None

    @property
    def url(self) -> str:
        """Its REDIS_URL."""
        return self.servers.url

    def look(self) -> redis.RedisCluster:
        """Open a client that sees every node."""
        return redis.RedisCluster(host="127.0.0.1", port=self.servers.masters()[0].port)

    def kill(self) -> None:
        """End a master without a word, and wait until its replica is promoted."""
        self._killed = self.servers.master_of(A_MASTER_OF)
        self._killed.kill()
        self.servers.wait_until_whole()

    def start(self) -> None:
        """Start the killed one on its file, and wait until it follows the one promoted."""
        killed = self._killed
        assert killed is not None
        killed.start_again()
        wait_until(lambda: killed.role() == "slave", "the killed master has become a replica")

        def follows() -> bool:
            return bool(killed.client.info("replication")["master_link_status"] == "up")

        wait_until(follows, "the replica follows")

    def freeze(self) -> None:
        """Let every node stand still."""
        for each in self.servers.servers.values():
            each.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on, and wait until they have agreed who serves what."""
        for each in self.servers.servers.values():
            each.process.send_signal(signal.SIGCONT)
        self.servers.wait_until_whole()

    def tell(self, *commands: Commands) -> None:
        """Run commands on every master, in one connection each."""
        for server in self.servers.masters():
            with redis.Redis(port=server.port) as client:
                for command in commands:
                    client.execute_command(*command)


def is_cluster() -> bool:
    """Whether this run is to use a Cluster: TEST_REDIS=cluster."""
    return os.environ.get("TEST_REDIS") == "cluster"


@contextmanager
def redis_of_the_run() -> Iterator[One | Many]:
    """Run the Redis that TEST_REDIS and TEST_REDIS_SERVER name."""
    if is_cluster():
        with cluster(MASTERS, 1, None, *SAFE, down_ms=DOWN_MS) as servers:
            yield Many(servers)
    else:
        with single(None, *SAFE) as server:
            yield One(server)
