"""The connector's instance for life: made once, adopted, put right behind everybody's back."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.flow.conftest import OUR_NUMBER, ROOT, Deployment, fetch, until
from tests.flow.fleet import Fleet
from tests.flow.load import Published, Verdict, judge
from tests.flow.test_dead_letters import parley
from tests.programs import bare_environ


def instances(deployment: Deployment) -> list[dict[str, Any]]:
    """Every instance the connector has, by its own records."""
    return list(fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances"])


def platform(deployment: Deployment, method: str, path: str, body: Any = None) -> Any:
    """Ask the connector as its user does in its console: behind the service's back."""
    request = urllib.request.Request(  # noqa: S310  (loopback)
        f"{deployment.settings['OPEN_CONNECTORS_BASE_URL']}{path}",
        None if body is None else json.dumps(body).encode(),
        {
            "Authorization": f"User {deployment.account['OPEN_CONNECTORS_USER_SECRET']}, "
            f"Organization {deployment.account['OPEN_CONNECTORS_ORGANIZATION_SECRET']}",
            "Content-Type": "application/json",
        },
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


def at_once(deployment: Deployment, count: int, *arguments: str) -> list[dict[str, Any]]:
    """Run a command in so many processes at the same time; returns what each printed."""
    environ = bare_environ("HOME", CONFIG_DIR=str(ROOT / "config"))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "service", *arguments, "--json"],
            env=environ | deployment.settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    found = []
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    return found


PHONES, TEXTS = 25, 28


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with a Redis and a sandbox of its own."""
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.long
def test_ten_processes_at_once_leave_one_instance_and_adopt_it_with_an_empty_redis(
    fleet: Fleet,
) -> None:
    """Ten replicas would leave ten instances behind, nine of them with our number."""
    fleet.start_sandbox()
    told = {each["instance"] for each in at_once(fleet, 10, "connector", "apply")}
    assert [str(each["id"]) for each in instances(fleet)] == list(told)

    with redis.Redis.from_url(fleet.settings["REDIS_URL"]) as client:
        client.flushall()
    again = {each["instance"] for each in at_once(fleet, 10, "connector", "apply")}
    assert again == told
    records = fetch(f"{fleet.sandbox}/sandbox/records")[1]
    assert records["instances_created"] == 1
    fleet.serve()
    assert fleet.text("hello")["status"] == 200
    until(lambda: fleet.bodies() == ["re hello"])


@pytest.mark.long
def test_every_command_of_the_connector_does_what_it_says(fleet: Fleet) -> None:
    """An operator would act on what is not so."""
    fleet.start_sandbox()
    assert "create an instance" in parley(fleet, "connector", "plan")
    assert "create an instance" in parley(fleet, "connector", "plan", "--exit-code", status=3)
    assert instances(fleet) == []
    parley(fleet, "connector", "show", status=1)
    assert "is as it should be" in parley(fleet, "connector", "apply")
    assert "nothing to do" in parley(fleet, "connector", "plan", "--exit-code")
    [made] = instances(fleet)
    url = f"/instances/{made['id']}"
    platform(fleet, "PUT", url, {"configuration": {"messaging.sms.twilio.sender": "+1999"}})
    assert "sender: '+1999' -> '+15005550100'" in parley(fleet, "connector", "plan")
    parley(fleet, "connector", "disable", "--yes")
    shown = json.loads(parley(fleet, "connector", "show", "--json"))
    assert (shown["instance"], shown["disabled"]) == (str(made["id"]), True)
    assert shown["configuration"]["messaging.sms.twilio.token"] == "********"
    parley(fleet, "connector", "enable")
    parley(fleet, "connector", "apply")
    assert json.loads(parley(fleet, "connector", "plan", "--json")) == {
        "changes": False,
        "steps": [],
    }
    former = fleet.settings["SECRET_KEY"]
    fleet.settings["SECRET_KEY"] = f"{'n' * 40},{former}"
    parley(fleet, "connector", "rekey")
    fleet.settings["SECRET_KEY"] = "n" * 40
    assert "nothing to do" in parley(fleet, "connector", "plan")
    parley(fleet, "connector", "rotate", "--yes")
    [new] = instances(fleet)
    assert new["id"] != made["id"]
    parley(fleet, "connector", "remove", "--yes")
    assert instances(fleet) == []


@pytest.mark.long
def test_a_lost_key_costs_the_instance_token_and_no_message(fleet: Fleet) -> None:
    """Without it only an empty Redis would help, and what waits in the present one be lost."""
    fleet.start_sandbox()
    parley(fleet, "connector", "apply")
    [made] = instances(fleet)
    fleet.settings["SECRET_KEY"] = "n" * 40
    assert "connector forget" in parley(fleet, "connector", "plan", status=2)
    parley(fleet, "connector", "forget", "--yes")
    assert f"adopt instance {made['id']}" in parley(fleet, "connector", "plan")
    parley(fleet, "connector", "apply")
    assert [each["id"] for each in instances(fleet)] == [made["id"]]
    assert "nothing to do" in parley(fleet, "connector", "plan")


def test_a_new_instance_is_taken_under_traffic_without_losing_a_callback_or_a_reply(
    fleet: Fleet,
) -> None:
    """Whoever changes a key that leaked would pay for it with texts."""
    fleet.start()
    before = {each["id"] for each in instances(fleet)}
    published = Published()
    rotated = threading.Event()

    def phone(theirs: str) -> None:
        """Text until the last rotation is over, and a little longer."""
        number = 0
        ends = None
        while ends is None or time.monotonic() < ends:
            sid = f"SM{theirs[1:]}{number:021d}"
            fleet.text(f"{theirs} {number}", theirs, sid=sid, to=OUR_NUMBER)
            published.texts[theirs].append(number)
            number += 1
            time.sleep(0.1)
            if ends is None and rotated.is_set():
                ends = time.monotonic() + 1

    with ThreadPoolExecutor(10) as pool:
        texting = [pool.submit(phone, f"+1500{555_0000 + n}") for n in range(10)]
        try:
            for _ in range(3):
                time.sleep(1)
                parley(fleet, "connector", "rotate", "--yes")
        finally:
            rotated.set()
        for each in texting:
            each.result()

    until(lambda: not judge(published, fleet.bodies()).lost)
    verdict = judge(published, fleet.bodies())
    assert verdict.good, str(verdict)
    assert fleet.dead_letters() == []
    callbacks = fetch(f"{fleet.sandbox}/sandbox/records")[1]["callbacks"]
    assert {each["status"] for each in callbacks} == {200}
    [left] = instances(fleet)
    assert left["id"] not in before


@pytest.mark.long
@pytest.mark.timeout(400)
def test_half_an_hour_of_meddling_loses_and_doubles_nothing(fleet: Fleet) -> None:
    """A click in the connector's console would silence everybody until somebody notices.

    Half an hour, thirty times as fast: every time of the settings is divided by thirty.
    """
    seed = 20_261_123
    dice = random.Random(seed)
    fleet.settings |= {
        "CONNECTOR_WATCH_S": str(180 / 30),
        "SEND_TIMEOUT_S": str(15 / 30),
        "RETRY_FIRST_S": str(1 / 30),
        "RETRY_MAX_S": str(300 / 30),
        "LEASE_TTL_S": "1",
        "BACKFILL_EVERY_S": str(300 / 30),
        "BACKFILL_OVERLAP_S": str(600 / 30),
    }
    fleet.start()

    def meddle() -> None:
        for each in instances(fleet):
            url = f"/instances/{each['id']}"
            match dice.choice(["disable", "delete", "callback", "sender", "token"]):
                case "disable":
                    platform(fleet, "DELETE", f"{url}/enabled")
                case "delete":
                    platform(fleet, "DELETE", url)
                case "token":
                    assert fetch(f"{fleet.sandbox}/sandbox/rotate", {})[0] == 200
                case entry:
                    name = "callback.url" if entry == "callback" else entry
                    entries = platform(fleet, "GET", f"{url}/configuration")
                    [id_] = [e["id"] for e in entries if e["key"].endswith(f".{name}")]
                    # Nobody listens there.
                    value = {"propertyValue": "http://127.0.0.1:9/"}
                    platform(fleet, "PATCH", f"{url}/configuration/{id_}", value)

    def phone(theirs: str) -> None:
        """Text through the network, which delivers to whatever address is registered just then."""
        own = random.Random(theirs)
        for number in range(TEXTS):
            sid = f"SM{theirs[1:]}{number:021d}"
            fleet.text(f"{theirs} {number}", theirs, sid=sid, to=OUR_NUMBER)
            published.texts[theirs].append(number)
            time.sleep(own.uniform(0, 2 * 1800 / 30 / TEXTS))

    published = Published()
    with ThreadPoolExecutor(PHONES) as pool:
        texting = [pool.submit(phone, f"+1500{555_0000 + n}") for n in range(PHONES)]
        end = time.monotonic() + 1800 / 30
        while time.monotonic() < end:
            # The service may have replaced the instance since it was listed.
            with contextlib.suppress(urllib.error.HTTPError):
                meddle()
            time.sleep(dice.uniform(0.5, 4))
        for each in texting:
            each.result()

    # What was delivered elsewhere is recovered later than what came after it: once, not in order.
    def verdict() -> Verdict:
        return judge(published, fleet.bodies())

    deadline = time.monotonic() + 90
    while verdict().lost and time.monotonic() < deadline:
        time.sleep(0.2)
    assert verdict().lost == [], f"seed {seed}"
    assert verdict().doubled == [], f"seed {seed}"
    assert fleet.dead_letters() == []
    callbacks = fetch(f"{fleet.sandbox}/sandbox/records")[1]["callbacks"]
    assert any(each["status"] != 200 for each in callbacks), "nothing was ever delivered elsewhere"
    until(lambda: len(instances(fleet)) == 1)
    until(lambda: "nothing to do" in parley(fleet, "connector", "plan"))
