"""No task of a process ends unnoticed: it is told of, shown, started anew, or ends the process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from service.host.embedded import find_server
from tests.flow.broken import broken
from tests.flow.conftest import Deployment, fetch, until

FAILED = "a task failed and is started again"


def events(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """The lines of the log with this event."""
    lines = [line for line in deployment.log().splitlines() if line.startswith("{")]
    return [event for event in map(json.loads, lines) if event["event"] == name]


def readiness(deployment: Deployment) -> dict[str, Any]:
    """What /readyz says, and {} while nobody answers."""
    with contextlib.suppress(OSError):
        return dict(fetch(f"{deployment.internal}/readyz", timeout_s=5)[1])
    return {}


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("what", "task", "answers"),
    [
        ("service.store.arrivals:Arrivals.wait", "the reader of inboxes", True),
        pytest.param("service.workers.partitions:Partitions._tick", "the leases", True, marks=LONG),
        pytest.param("service.wiring.parts.work:WorkSide.run", "the worker", True, marks=LONG),
        pytest.param("service.wiring.parts.public:PublicSide.run", "the door", True, marks=LONG),
        pytest.param("service.connector.backfill:Backfill.run", "the backfill", False, marks=LONG),
        pytest.param(
            "service.connector.watching:InstanceWatch.run",
            "the watch over the instance",
            False,
            marks=LONG,
        ),
        pytest.param("service.store.watch:Watch.run", "the watch over Redis", False, marks=LONG),
        pytest.param(
            "service.wiring.parts.reporting:Reporting.run_until",
            "the figures",
            False,
            marks=LONG,
        ),
        ("service.workers.owner:Owner._round", "partition ", False),
    ],
    ids=lambda each: each.rpartition(":")[2] if isinstance(each, str) else "",
)
def test_a_task_that_fails_is_told_of_and_started_anew(
    deployment: Deployment, tmp_path: Path, what: str, task: str, answers: bool
) -> None:
    """The process would take texts, answer none, call itself ready, and say nothing."""
    process = deployment.serve(ready=False, **broken(tmp_path, what, 3))
    seen = {}

    def look() -> bool:
        for name, check in readiness(deployment).get("checks", {}).items():
            if name.startswith(task):
                seen["it runs again" in check["detail"]] = check["ok"]
        # The figures of a process alone are left once.
        runs = True in seen or task == "the figures"
        return len(events(deployment, FAILED)) == 3 and runs

    until(look, every_s=0.02)
    told = events(deployment, FAILED)
    assert all(each["task"].startswith(task) for each in told)
    assert all(each["error"] == "TypeError: broken on purpose" for each in told)
    assert all(each["at"].startswith("service/") and each["exception"] for each in told)
    assert seen.get(True, True)
    if False in seen:
        assert seen[False] is not answers
    deployment.wait_until_ready(process)
    until(lambda: deployment.text("hello")["status"] == 200)
    until(lambda: len(deployment.bodies()) == 1)
    process.terminate()
    assert process.wait(15) == 0


def test_while_the_reader_is_down_the_process_is_not_ready(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Whoever starts dead processes again would leave alone the one that answers nobody."""
    what = "service.store.arrivals:Arrivals.wait"
    deployment.serve(ready=False, **broken(tmp_path, what, 5))
    until(lambda: len(events(deployment, FAILED)) == 4)  # Down for 2 s from now on.
    status, said = fetch(f"{deployment.internal}/readyz")
    check = said["checks"]["the reader of inboxes"]
    assert status == 503
    assert not check["ok"]
    assert check["detail"].startswith("failed 4 times, the last: TypeError; starts again in ")


def test_the_servers_of_a_process_are_started_anew_on_their_listeners(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The port would stay open, and nobody behind it."""
    what = "service.host.listeners:AppServer.main_loop"
    process = deployment.serve(**broken(tmp_path, what, 4))
    assert {each["task"] for each in events(deployment, FAILED)} == {
        "the door",
        "the internal server",
    }
    assert deployment.text("hello")["status"] == 200
    until(lambda: len(deployment.bodies()) == 1)
    process.terminate()
    assert process.wait(15) == 0


def test_a_task_that_keeps_failing_ends_the_process_in_good_order(
    deployment: Deployment, tmp_path: Path, redis_server: str
) -> None:
    """Nobody outside would know that it has to be replaced; its leases would have to run out."""
    if redis_server.startswith("redis+cluster"):
        pytest.skip("looks at the keys of one server")
    what = "service.store.arrivals:Arrivals.wait"
    environ = broken(tmp_path, what, 1000, failures=4)
    settings = {"REDIS_URL": redis_server, "LEASE_TTL_S": "60"}
    process = deployment.serve(ready=False, **settings, **environ)
    assert process.wait(20) == 1
    assert len(events(deployment, FAILED)) == 3
    (told,) = events(deployment, "a task keeps failing: the process ends")
    assert told["task"] == "the reader of inboxes"
    with redis.Redis.from_url(redis_server) as client:
        assert list(client.scan_iter("parley:{p*}:lease", count=1000)) == []


def test_an_error_that_reaches_the_top_is_one_line_and_the_process_starts_anew(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A traceback alone names no cause, and nobody starts a process again that runs alone."""
    what = "service.wiring.process:Process.run"
    process = deployment.serve(**broken(tmp_path, what, 3))
    told = events(deployment, "Parley failed and is started anew")
    assert [each["in_s"] for each in told] == [0.25, 0.5, 1.0]
    assert all(each["error"] == "TypeError: broken on purpose" for each in told)
    assert all(each["at"].startswith("service/wiring/alone.py:") for each in told)
    assert deployment.text("hello")["status"] == 200
    until(lambda: len(deployment.bodies()) == 1)
    process.terminate()
    assert process.wait(15) == 0
    assert all(
        line.startswith("{") for line in deployment.log().splitlines() if "TypeError" in line
    )


def test_a_stop_is_heard_between_two_starts(deployment: Deployment, tmp_path: Path) -> None:
    """A process that fails all the time could be ended by force alone."""
    what = "service.wiring.process:Process.run"
    process = deployment.serve(ready=False, **broken(tmp_path, what, 1000))
    told = "Parley failed and is started anew"
    until(lambda: len(events(deployment, told)) == 5)
    time.sleep(0.5)  # Of the 4 s until the next start.
    process.terminate()
    assert process.wait(15) == 0
    assert len(events(deployment, told)) == 5, "it was started once more"


@pytest.mark.parametrize(
    "times", [pytest.param(1, id="once"), pytest.param(3, id="three times", marks=LONG)]
)
def test_two_services_that_start_at_once_have_an_internal_port_each(
    tmp_path: Path, times: int
) -> None:
    """The README says that a second one takes a free port."""
    for round_ in range(times):
        deployments = []
        try:
            for name in "ab":
                folder = tmp_path / f"{round_}{name}"
                folder.mkdir()
                deployments.append(Deployment(folder))
            # Neither has chosen a port; no instance is waited for.
            for each in deployments:
                each.spawn("serve", "--role", "worker", pass_sockets=())
            for each in deployments:
                until(lambda each=each: '"Parley is up"' in each.log())
            ports = {
                json.loads(line)["internal"]
                for each in deployments
                for line in each.log().splitlines()
                if '"Parley is up"' in line
            }
            assert len(ports) == 2
            assert not any("Traceback" in each.log() for each in deployments)
        finally:
            for each in deployments:
                each.close()


@contextlib.contextmanager
def redis_on(path: Path) -> Iterator[None]:
    """Run a Redis that listens on this socket."""
    server = subprocess.Popen(
        [find_server(), "--port", "0", "--unixsocket", str(path), "--dir", str(path.parent)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


def test_that_redis_is_away_is_said_once_and_that_parley_is_up_when_it_is_not(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A line a second hides all others, and "up" would be said of what takes no text."""
    path = tmp_path / "redis.sock"
    process = deployment.serve(ready=False, REDIS_URL=f"unix://{path}")
    until(lambda: events(deployment, "waiting for Redis"))
    time.sleep(3.5)
    assert len(events(deployment, "waiting for Redis")) == 1
    assert not events(deployment, "Parley is up")
    with redis_on(path):
        until(lambda: events(deployment, "Parley is up"))
        process.terminate()
        assert process.wait(15) == 0


def test_a_callback_waits_for_the_first_look_at_redis(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A process that is not ready answered 503, though another on the listener could take it."""
    path = tmp_path / "redis.sock"
    deployment.serve(ready=False, REDIS_URL=f"unix://{path}")
    until(lambda: events(deployment, "waiting for Redis"))
    with ThreadPoolExecutor(1) as phone:
        answered = phone.submit(deployment.post, *deployment.signed("SM" + "1" * 32, "early"))
        time.sleep(0.3)
        assert not answered.done()
        with redis_on(path):
            assert answered.result() == 200


@pytest.mark.long
def test_a_callback_is_answered_when_redis_does_not_come(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Twilio learns that it has to come again, before it gives up waiting."""
    deployment.serve(ready=False, REDIS_URL=f"unix://{tmp_path / 'redis.sock'}")
    until(lambda: events(deployment, "waiting for Redis"))
    began = time.monotonic()
    assert deployment.post(*deployment.signed("SM" + "1" * 32, "early")) == 503
    assert time.monotonic() - began < 10
