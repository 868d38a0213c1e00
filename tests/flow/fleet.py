"""A fleet: a Redis that can be killed, a door, workers that come and go, and a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import redis

from tests.flow.cable import Cable
from tests.flow.conftest import Deployment, listener, until
from tests.flow.load import HANDLERS, Publisher, settled_verdict
from tests.flow.redises import Foreign, Many, One, is_cluster, redis_of_the_run
from tests.present import as_a

LEASE_S = 2


class Fleet(Deployment):
    """The processes, each of which can be killed, frozen and replaced.

    foreign: a Redis that somebody else runs. Without it the fleet runs one of its own, of the kind
        that the run asks for.
    wired: the door and each worker reach Redis by a cable of their own, see `cables`. Not a
        Cluster, whose nodes send clients past it.
    """

    def __init__(
        self, folder: Path, foreign: Foreign | None = None, *, wired: bool = False
    ) -> None:
        super().__init__(folder)
        handlers = folder / "echo_handlers.py"
        handlers.write_text(HANDLERS)
        self._stack = contextlib.ExitStack()
        self._own = None if foreign else self._stack.enter_context(redis_of_the_run())
        used = foreign or self.redis
        self.settings |= {
            "HANDLERS": str(handlers),
            "REDIS_URL": used.url,
            "LEASE_TTL_S": str(LEASE_S),
            "SEND_TIMEOUT_S": "2",
            "RETRY_MAX_S": "2",
            "SEND_ATTEMPTS": "50",
            **used.settings,
        }
        self.look = used.look
        self._wired = wired and not is_cluster()
        self._cables: list[tuple[Cable, subprocess.Popen[bytes] | None]] = []
        self.connector: subprocess.Popen[bytes] | None = None
        self.door: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._internal: list[socket.socket] = []
        self.first = 0

    @property
    def redis(self) -> One | Many:
        """The fleet's own Redis."""
        assert self._own is not None, "this Redis is somebody else's"
        return self._own

    def start(self, workers: int = 2) -> None:
        """Start everything and wait until the workers share the partitions evenly."""
        self.connector = self.start_sandbox()
        self.door = self._serve_door(ready=False)
        for _ in range(workers):
            self.add_worker()
        self.wait_until_ready(self.door)
        until(lambda: len(self.owners()) == workers and sum(self.owners().values()) == 16)

    def add_worker(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start another worker, on an internal port of its own."""
        internal = listener()
        self._internal.append(internal)
        fd = str(internal.fileno())
        cable = self._cable()
        worker = self.spawn(
            "serve",
            "--role",
            "worker",
            "--internal-fd",
            fd,
            pass_sockets=(internal,),
            **(cable | settings),
        )
        self._plug(worker)
        self.workers.append(worker)
        return worker

    def kill_worker(self, place: int) -> None:
        """End a worker without a word and start another in its place."""
        worker = self.workers.pop(place)
        worker.kill()
        worker.wait()
        self.add_worker()

    @property
    def cables(self) -> list[Cable]:
        """The cable of each process that lives; none unless the fleet is wired."""
        return [cable for cable, process in self._cables if process and process.poll() is None]

    def _serve_door(self, *, ready: bool = True) -> subprocess.Popen[bytes]:
        door = self.serve("--role", "web", ready=ready, **self._cable())
        self._plug(door)
        return door

    def _cable(self) -> dict[str, str]:
        """Find a cable for a process that is to be started, for its settings; mended."""
        if not self._wired:
            return {}
        for place, (cable, process) in enumerate(self._cables):
            if process is None or process.poll() is not None:
                self._cables.append(self._cables.pop(place))
                cable.mend()
                return {"REDIS_URL": cable.url}
        cable = self._stack.enter_context(Cable(as_a(One, self.redis).port))
        self._cables.append((cable, None))
        return {"REDIS_URL": cable.url}

    def _plug(self, process: subprocess.Popen[bytes]) -> None:
        """Note whose cable it is that `_cable` found last."""
        if self._wired:
            self._cables[-1] = (self._cables[-1][0], process)

    def owners(self) -> dict[str, int]:
        """How many partitions each worker has the lease of."""
        found: dict[str, int] = {}
        with self.look() as client, contextlib.suppress(redis.RedisError):
            for key in client.scan_iter("parley:{p*}:lease", count=1000):
                value = client.get(key)
                if value is not None:
                    owner = value.decode().rpartition(":")[0]
                    found[owner] = found.get(owner, 0) + 1
        return found

    def dead_letters(self) -> list[dict[bytes, bytes]]:
        """Every dead letter as Redis holds it."""
        found = []
        with self.look() as client:
            for key in client.scan_iter("parley:{p*}:dead", count=1000):
                found += [fields for _, fields in client.xrange(key)]
        return found

    def kill_door(self) -> None:
        """End the process callbacks come to without a word, and start another."""
        assert self.door is not None
        self.door.kill()
        self.door.wait()
        self.door = self._serve_door(ready=False)

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
        throughout: bool = False,
    ) -> None:
        """Publish while `faults` (a coroutine function taking the fleet) breaks things; verify.

        dead: dead letters that there must be in the end. throughout: publish more than `texts`
        from each phone if that takes less time than the faults.
        """

        async def both() -> Any:
            publisher = Publisher(self, seed, pause_s=0.06)
            over = asyncio.Event()
            async with asyncio.TaskGroup() as both_at_once:
                publishing = both_at_once.create_task(
                    publisher.publish(
                        phones, texts, first=self.first, over=over if throughout else None
                    )
                )
                await faults(self)
                over.set()
            return publishing.result()

        published = asyncio.run(both())
        assert all(len(numbers) >= texts for numbers in published.texts.values())
        assert len(published.texts) == phones
        self.first += max(map(len, published.texts.values()))
        verdict = settled_verdict(self, published, within_s)
        assert verdict.good, f"seed {seed}: {verdict}; dead letters: {self.dead_letters()}"
        assert len(self.dead_letters()) == dead, f"seed {seed}: {self.dead_letters()}"
        assert '"level": "critical"' not in self.log()

    def close(self) -> None:
        """Wake whatever is frozen, then end everything, Redis last."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        super().close()
        self._stack.close()
        for internal in self._internal:
            internal.close()
