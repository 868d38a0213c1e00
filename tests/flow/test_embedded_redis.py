"""The service on the Redis of its own: killed and frozen under it."""

from __future__ import annotations

import os
import signal
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import redis

from tests.flow.conftest import Deployment, fetch, until


def server_pid(deployment: Deployment) -> int:
    """Tell the process id of the deployment's embedded Redis."""
    path = deployment.folder / "data" / "redis.sock"
    with redis.Redis(unix_socket_path=str(path)) as client:
        return int(client.info("server")["process_id"])


def test_an_embedded_redis_that_is_killed_comes_back_and_nothing_is_lost(
    deployment: Deployment,
) -> None:
    """The service would refuse every text until somebody noticed and restarted it."""
    deployment.serve()
    accepted = []

    def text(number: int) -> bool:
        told = deployment.text(f"echo {number}", theirs=f"+1500555{number:04}")
        if told["status"] == 200:
            accepted.append(f"+1500555{number:04}")
        return bool(told["status"] == 200)

    for number in range(60):
        if number in {20, 40}:
            os.kill(server_pid(deployment), signal.SIGKILL)
        text(number)
    until(lambda: text(1_000 + len(accepted)), within_s=40)
    until(lambda: {each["theirs"] for each in deployment.replies()} >= set(accepted), within_s=40)
    answered = [each["theirs"] for each in deployment.replies()]
    assert len(answered) == len(set(answered)), "answered twice"
    assert deployment.log().count("embedded Redis ended and is started again") == 2


def test_readiness_names_a_redis_that_hangs(deployment: Deployment) -> None:
    """A probe would give up first, and nobody would know what hangs."""
    deployment.serve()
    pid = server_pid(deployment)
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        status, answer = fetch(f"{deployment.internal}/readyz")
        took_s = time.monotonic() - begun
    finally:
        os.kill(pid, signal.SIGCONT)
    assert status == 503
    assert answer["checks"]["redis"] == {"ok": False, "detail": "Redis: no answer within 2 s"}
    assert answer["checks"]["handlers"]["ok"]
    assert took_s < 4
    until(lambda: fetch(f"{deployment.internal}/readyz")[0] == 200)


def test_what_became_of_callbacks_is_counted_on_the_internal_listener(
    deployment: Deployment,
) -> None:
    """Refusals are logged once a second at most; how many there were is told here."""
    deployment.serve()
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(f"{deployment.public}/callbacks/twilio?MessageSid=SM1", timeout=30)  # noqa: S310  (loopback)
    refused.value.close()
    _, counters = fetch(f"{deployment.internal}/counters")
    assert (counters["callbacks_bad_signature"], counters["callbacks_accepted"]) == (1, 0)
    assert counters["dead_letters"] == 0
