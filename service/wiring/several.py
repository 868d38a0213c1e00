"""Several processes of `parley serve` side by side, on shared listeners, and their supervisor."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from service.host.notify import NOTIFY_SOCKET, Starter
from service.host.slots import as_argument, unnamed_file
from service.host.supervisor import Supervisor
from service.settings.table import Settings
from service.wiring.dead_workers import DeadWorkers
from service.wiring.stopping import CLOSE_S, PARTS_S

if TYPE_CHECKING:
    from service.wiring.process import ProcessRole


def run_several(
    settings: Settings,
    role: ProcessRole,
    redis_url: str,
    public: socket.socket | None,
    internal: socket.socket,
    *,
    starter: Starter,
    key_file: Path | None,
) -> int:
    """Run PROCESSES of them until the service is told to stop; returns the exit status.

    redis_url: the Redis of all of them. starter: told when all of them are up.
    key_file: of the SECRET_KEY that was made up; None where another one is in use.
    """
    listeners = [listener for listener in (public, internal) if listener is not None]
    arguments = ["serve", "--role", role, "--processes", "1", "--stop-with-stdin"]
    if public is not None:
        arguments += ["--fd", str(public.fileno())]
    arguments += ["--internal-fd", str(internal.fileno())]
    # They read the settings where this process did: what a secret file holds is in no environment.
    environ = dict(os.environ) | ({} if settings.redis_url else {"REDIS_URL": redis_url})
    if key_file is not None:
        environ["SECRET_KEY_FILE"] = str(key_file)
    # The service is up when all of them are: the supervisor says so, and nobody else can.
    environ.pop(NOTIFY_SOCKET, None)
    count, slots = settings.processes, unnamed_file()
    dead = DeadWorkers(redis_url, settings.partitions, settings.lease_ttl_s)

    def own_arguments(number: int) -> list[str]:
        own = ["--slot", as_argument(slots, number, count)]
        return own if role == "web" else [*own, "--worker", dead.named(number)]

    told, up_fd = os.pipe()
    os.set_blocking(told, False)
    arguments += ["--up-fd", str(up_fd)]
    return Supervisor(
        count,
        arguments,
        environ,
        [*(listener.fileno() for listener in listeners), slots, up_fd],
        own_arguments=own_arguments,
        stop_s=PARTS_S + CLOSE_S,
        died=dead.disown,
        told=told,
        starter=starter,
    ).run()
