"""What systemd hears of `parley serve`: a real service, and the socket that systemd would have."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.flow.conftest import Deployment, until
from tests.redis_servers import redis_binary

PROCESSES = pytest.mark.parametrize(
    "processes",
    [
        pytest.param("1", id="one process"),
        pytest.param("2", id="two processes", marks=pytest.mark.long),
    ],
)


@pytest.fixture
def heard(tmp_path: Path, deployment: Deployment) -> Iterator[socket.socket]:
    """The service manager's socket, which the deployment is told of."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        deployment.settings["NOTIFY_SOCKET"] = path
        yield manager


def silent(manager: socket.socket) -> bool:
    """Whether nothing more has been told."""
    manager.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError):
            manager.recv(100)
            return False
        return True
    finally:
        manager.settimeout(20)


@PROCESSES
def test_systemd_hears_once_that_the_service_is_up_and_once_that_it_stops(
    deployment: Deployment, heard: socket.socket, processes: str
) -> None:
    """Otherwise `systemctl start` ends too early, or never."""
    process = deployment.serve("--processes", processes)

    assert heard.recv(100) == b"READY=1"
    until(lambda: deployment.log().count("Parley is up") == int(processes))
    time.sleep(1)
    assert silent(heard)

    process.terminate()
    assert heard.recv(100) == b"STOPPING=1"
    assert process.wait(15) == 0
    assert silent(heard)


@PROCESSES
def test_the_service_is_not_up_before_redis_was_reached(
    deployment: Deployment, heard: socket.socket, processes: str, tmp_path: Path
) -> None:
    """Otherwise what is ordered after it starts without a working Parley."""
    path = tmp_path / "late.sock"
    deployment.serve("--processes", processes, ready=False, REDIS_URL=f"unix://{path}")
    until(lambda: deployment.log().count("waiting for Redis") >= int(processes))
    assert silent(heard)

    command = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path)]
    redis = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        assert heard.recv(100) == b"READY=1"
        deployment.close()
    finally:
        redis.terminate()
        redis.wait(10)


def test_a_process_of_a_supervisor_does_not_know_the_service_manager(
    deployment: Deployment, heard: socket.socket
) -> None:
    """Otherwise the first of several processes would pass for all of them."""
    process = deployment.serve("--processes", "2")
    children = [
        child for child in psutil.Process(process.pid).children() if "serve" in child.cmdline()
    ]

    assert len(children) == 2
    if sys.platform == "linux":
        started_with = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"NOTIFY_SOCKET=" in started_with
    assert all("NOTIFY_SOCKET" not in child.environ() for child in children)
