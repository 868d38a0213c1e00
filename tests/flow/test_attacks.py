"""A real service attacked by callers who have nothing but a connection and captured callbacks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from twilio.request_validator import RequestValidator

from tests.flow.attacks import FLOODS, Attacker, Line, Request, attack, captured, close_all
from tests.flow.conftest import OUR_NUMBER, ROOT, Deployment, fetch
from tests.present import present

QUIET: dict[str, Any] = {"BACKFILL_EVERY_S": "0", "CONNECTOR_WATCH_S": "3600", "LOG_LEVEL": "debug"}
"""Settings under which nothing but callbacks changes Redis."""


def port_of(deployment: Deployment) -> int:
    """Tell the public port."""
    return present(urlsplit(deployment.public).port)


def contents(client: redis.Redis) -> dict[bytes, bytes]:
    """Read all of Redis, byte for byte."""
    return {key: present(client.dump(key)) for key in client.scan_iter("*", count=1000)}


def test_hostile_callbacks_leave_redis_as_it_was(
    deployment: Deployment, redis_server: str, pytestconfig: pytest.Config
) -> None:
    """Nobody without a key may cost us a byte of Redis, a 5xx, or memory.

    `--hostile 1000000` sends as many, `--hostile-seed` others.
    """
    if redis_server.startswith("redis+cluster"):
        pytest.skip("what is in Redis is read from one server")
    count, seed = pytestconfig.getoption("hostile"), pytestconfig.getoption("hostile_seed")
    process = deployment.serve("--role", "web", REDIS_URL=redis_server, **QUIET)
    account = deployment.settings["TWILIO_ACCOUNT_SID"]
    url = f"{deployment.public}/callbacks/twilio"
    genuine = captured(url, deployment.auth_token, account, OUR_NUMBER)
    port = port_of(deployment)

    async def deliver() -> list[int]:
        line = Line(port)
        answered = [await line.ask(each.wire()) for each in genuine]
        await close_all([line])
        return answered

    assert asyncio.run(deliver()) == [200] * len(genuine)
    attacker = Attacker(genuine, seed)
    with redis.Redis.from_url(redis_server) as client:
        asyncio.run(attack(port, attacker, count // 10))
        before, memory = contents(client), psutil.Process(process.pid).memory_info().rss
        counted = fetch(f"{deployment.internal}/counters")[1]
        statuses = asyncio.run(attack(port, attacker, count))
        after = fetch(f"{deployment.internal}/counters")[1]
        assert contents(client) == before
    print(f"seed {seed}: {dict(statuses)}")  # noqa: T201  (shown by -s)
    assert sum(statuses.values()) >= count
    assert not any(status >= 500 or status == 0 for status in statuses), statuses
    for what in ("callbacks_accepted", "callbacks_statuses", "callbacks_failed"):
        assert after[what] == counted[what], what
    assert after["callbacks_forged"] > counted["callbacks_forged"]
    assert psutil.Process(process.pid).memory_info().rss < memory + 10 * 1024 * 1024
    assert "Traceback" not in deployment.log()


async def text_steadily(
    url: str, token: str, account: str, *, seconds: float, first: int, per_s: int = 200
) -> tuple[list[int], list[float]]:
    """Send signed callbacks at a steady rate; returns statuses, and seconds to the answer."""
    sign = RequestValidator(token).compute_signature
    port = urlsplit(url).port or 80
    idle: list[Line] = []
    statuses: list[int] = []
    took: list[float] = []

    async def one(number: int, due: float) -> None:
        sid = f"SM{number:032x}"
        pairs = [
            *(("MessageSid", sid), ("AccountSid", account), ("From", f"+1500556{number % 999:04}")),
            *(("To", OUR_NUMBER), ("Body", "hello"), ("NumMedia", "0"), ("SmsStatus", "received")),
        ]
        line = idle.pop() if idle else Line(port)
        statuses.append(await line.ask(Request(pairs, sign(url, dict(pairs))).wire()))
        took.append(time.monotonic() - due)
        idle.append(line)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * per_s)):
            due = began + number / per_s
            await asyncio.sleep(max(0, due - time.monotonic()))
            group.create_task(one(first + number, due))
    await close_all(idle)
    return statuses, took


def p99_ms(took: list[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return sorted(took)[int(len(took) * 0.99)] * 1000


@pytest.mark.long
@pytest.mark.parametrize("kind", FLOODS)
def test_signed_callbacks_are_all_accepted_under_a_flood(
    deployment: Deployment, redis_server: str, kind: str
) -> None:
    """Whoever floods the door would keep everybody's texts out."""
    deployment.serve("--role", "web", REDIS_URL=redis_server, **QUIET | {"LOG_LEVEL": "info"})
    account, port = deployment.settings["TWILIO_ACCOUNT_SID"], port_of(deployment)
    signed = f"{deployment.public}/callbacks/twilio", deployment.auth_token, account
    seconds, beside = 4.0, "PYTEST_XDIST_WORKER" in os.environ
    for attempt in range(3):
        first = attempt * 200_000
        _, quiet = asyncio.run(text_steadily(*signed, seconds=seconds, first=first))
        flood = subprocess.Popen(
            [sys.executable, "-m", "tests.flow.attacks", kind, str(port), str(seconds + 2)],
            cwd=ROOT,
        )
        time.sleep(1)
        statuses, took = asyncio.run(text_steadily(*signed, seconds=seconds, first=first + 100_000))
        flooded = flood.wait(30) == 0
        print(f"{kind}: p99 {p99_ms(quiet):.1f} ms, {p99_ms(took):.1f} ms flooded")  # noqa: T201
        assert statuses == [200] * int(seconds * 200)
        assert max(took) < 5
        # Beside other tests the sender may not get to its rate: that and the times count alone.
        if beside or (flooded and (kind != "forgeries" or p99_ms(took) <= 3 * p99_ms(quiet))):
            break
    else:
        pytest.fail(
            "three times, the flood was short, or signed callbacks waited over three times longer"
        )
    counted = fetch(f"{deployment.internal}/counters")[1]
    told = {
        "heads": "connections_heads_too_large",
        "slow": "connections_evicted",
        "forgeries": "callbacks_bad_signature",
    }
    assert counted[told[kind]] > 20
    assert deployment.log().count("\n") < 300
