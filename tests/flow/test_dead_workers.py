"""How long conversations wait when the process that had them is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from tests.flow.conftest import Deployment, listener, until

HANDLERS = """
from service import Router
router = Router()

@router.default
def echo(message):
    return message.body
"""

PHONES = [f"+150055507{n:02}" for n in range(32)]


@pytest.fixture
def settings(deployment: Deployment, redis_server: str, tmp_path: Path) -> Deployment:
    """A Redis that outlives the processes, handlers that answer at once, and the default lease."""
    path = tmp_path / "echo_handlers.py"
    path.write_text(HANDLERS)
    deployment.settings |= {"REDIS_URL": redis_server, "HANDLERS": str(path)}
    del deployment.settings["LEASE_TTL_S"]
    return deployment


def owners(url: str) -> dict[str, int]:
    """How many leases each worker holds."""
    kind = redis.RedisCluster if url.startswith("redis+cluster") else redis.Redis
    found: dict[str, int] = {}
    with kind.from_url(url.replace("redis+cluster", "redis")) as client:
        for key in client.scan_iter("parley:{p*}:lease", count=1000):
            if (value := client.get(key)) is not None:
                owner = value.decode().partition(":")[0]
                found[owner] = found.get(owner, 0) + 1
    return found


def waits_after(deployment: Deployment, kill: Callable[[], None]) -> list[float]:
    """Kill, text from every phone at once, and return how long each waited for its answer."""
    sent = {}
    kill()
    for phone in PHONES:
        deployment.text(phone, theirs=phone)
        sent[phone] = time.monotonic()
    waited: dict[str, float] = {}

    def answered() -> bool:
        for body in deployment.bodies():
            if body in sent and body not in waited:
                waited[body] = time.monotonic() - sent[body]
        return len(waited) == len(sent)

    until(answered, within_s=20, every_s=0.02)
    return list(waited.values())


def test_after_a_kill_texts_are_answered_within_five_seconds(
    settings: Deployment, redis_server: str
) -> None:
    """People would take ten seconds of silence for a service that is gone."""
    door = settings.serve("--role", "web", ready=False)
    internals = [listener(), listener()]
    try:
        workers = [
            settings.spawn(
                *("serve", "--role", "worker", "--internal-fd", str(internal.fileno())),
                pass_sockets=(internal,),
            )
            for internal in internals
        ]
        settings.wait_until_ready(door)
        until(lambda: sorted(owners(redis_server).values()) == [8, 8])
        assert max(waits_after(settings, workers[0].kill)) < 5
    finally:
        for internal in internals:
            internal.close()


def test_under_the_supervisor_texts_are_answered_within_a_second(
    settings: Deployment, redis_server: str
) -> None:
    """It sees the process die: nobody need wait for its leases to run out."""
    settings.settings["LEASE_TTL_S"] = "60"  # Whoever waited for it would be seen to.
    service = settings.serve("--processes", "2")
    until(lambda: sorted(owners(redis_server).values()) == [8, 8])
    killed = psutil.Process(service.pid).children()[0]
    before = owners(redis_server)
    waited = waits_after(settings, killed.kill)
    told = next(
        json.loads(line)
        for line in settings.log().splitlines()
        if "the leases of a process that died are given up" in line
    )
    assert told["worker"] in before
    assert told["count"] == 8
    # A second alone; the leases last a minute, and this machine is shared by other tests.
    assert max(waited) < 5
    until(lambda: sorted(owners(redis_server).values()) == [8, 8])
    assert told["worker"] not in owners(redis_server)
