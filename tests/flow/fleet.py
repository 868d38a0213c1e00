"""A fleet: a Redis that can be killed, a door, workers that come and go, and a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.conftest import redis_binary
from tests.flow.conftest import Deployment, listener, until
from tests.flow.load import HANDLERS, Publisher, settled_verdict

LEASE_S = 2


class Fleet(Deployment):
    """The processes, each of which can be killed, frozen and replaced.

    redis_url, look: a Redis that somebody else runs, and how to open a client that sees all of it.
        Without them the fleet runs a server of its own.
    """

    def __init__(
        self, folder: Path, redis_url: str = "", look: Callable[[], Any] | None = None
    ) -> None:
        super().__init__(folder)
        handlers = folder / "echo_handlers.py"
        handlers.write_text(HANDLERS)
        self.redis_folder = folder / "redis"
        self.redis_folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.redis_port = free.getsockname()[1]
        self.settings |= {
            "HANDLERS": str(handlers),
            "REDIS_URL": redis_url or f"redis://127.0.0.1:{self.redis_port}/0",
            "LEASE_TTL_S": str(LEASE_S),
            "SEND_TIMEOUT_S": "2",
            "RETRY_MAX_S": "2",
            "SEND_ATTEMPTS": "50",
        }
        self._look = look or (lambda: redis.Redis(port=self.redis_port))
        self._own_redis = not redis_url
        self.redis: subprocess.Popen[bytes] | None = None
        self.connector: subprocess.Popen[bytes] | None = None
        self.door: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._internal: list[socket.socket] = []
        self.first = 0

    def start(self, workers: int = 2) -> None:
        """Start everything and wait until the workers share the partitions evenly."""
        if self._own_redis:
            self.start_redis()
        self.connector = self.start_sandbox()
        self.door = self.serve("--role", "web")
        for _ in range(workers):
            self.add_worker()
        until(lambda: len(self.owners()) == workers and sum(self.owners().values()) == 16)

    def start_redis(self) -> None:
        """Start Redis on its append-only file."""
        command = [redis_binary(), "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.redis_folder), "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.processes.append(self.redis)
        until(self._redis_answers)

    def kill_redis(self) -> None:
        """End Redis without a word."""
        assert self.redis is not None
        self.redis.kill()
        self.redis.wait()

    def tell_redis(self, *commands: tuple[str, ...]) -> None:
        """Run commands against the fleet's own Redis, in one connection."""
        with redis.Redis(port=self.redis_port) as client:
            for command in commands:
                client.execute_command(*command)

    def add_worker(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start another worker, on an internal port of its own."""
        internal = listener()
        self._internal.append(internal)
        fd = str(internal.fileno())
        worker = self.spawn(
            "serve",
            "--role",
            "worker",
            "--internal-fd",
            fd,
            pass_sockets=(internal,),
            **settings,
        )
        self.workers.append(worker)
        return worker

    def kill_worker(self, place: int) -> None:
        """End a worker without a word and start another in its place."""
        worker = self.workers.pop(place)
        worker.kill()
        worker.wait()
        self.add_worker()

    def owners(self) -> dict[str, int]:
        """How many partitions each worker has the lease of."""
        found: dict[str, int] = {}
        with self._look() as client, contextlib.suppress(redis.RedisError):
            for key in client.scan_iter("parley:{p*}:lease", count=1000):
                value = client.get(key)
                if value is not None:
                    owner = value.decode().rpartition(":")[0]
                    found[owner] = found.get(owner, 0) + 1
        return found

    def dead_letters(self) -> list[dict[bytes, bytes]]:
        """Every dead letter as Redis holds it."""
        found = []
        with self._look() as client:
            for key in client.scan_iter("parley:{p*}:dead", count=1000):
                found += [fields for _, fields in client.xrange(key)]
        return found

    def kill_door(self) -> None:
        """End the process callbacks come to without a word, and start another."""
        assert self.door is not None
        self.door.kill()
        self.door.wait()
        self.door = self.serve("--role", "web", ready=False)

    def replace_the_dead(self) -> None:
        """Start a worker in the place of each that has ended."""
        for worker in [each for each in self.workers if each.poll() is not None]:
            self.workers.remove(worker)
            self.add_worker()

    def run(
        self,
        faults: Any,
        *,
        phones: int,
        texts: int,
        seed: int,
        within_s: float = 60,
        dead: int = 0,
    ) -> None:
        """Publish while `faults` (a coroutine function taking the fleet) breaks things; verify.

        dead: dead letters that there must be in the end.
        """

        async def both() -> Any:
            publisher = Publisher(self, seed, pause_s=0.06)
            publishing = asyncio.create_task(publisher.publish(phones, texts, first=self.first))
            await faults(self)
            return await publishing

        published = asyncio.run(both())
        self.first += texts
        assert published.count == phones * texts
        verdict = settled_verdict(self, published, within_s)
        assert verdict.good, f"seed {seed}: {verdict}; dead letters: {self.dead_letters()}"
        assert len(self.dead_letters()) == dead, f"seed {seed}: {self.dead_letters()}"
        assert '"level": "critical"' not in self.log()

    def close(self) -> None:
        """Wake whatever is frozen, then end everything, Redis last."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        if self.redis in self.processes:
            self.processes.remove(self.redis)
            self.processes.insert(0, self.redis)
        super().close()
        for internal in self._internal:
            internal.close()

    def _redis_answers(self) -> bool:
        with redis.Redis(port=self.redis_port) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
