"""The whole loop over real processes: a text in, the reply out through the provisioned instance."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from tests.flow.conftest import Deployment, fetch, until
from tests.flow.test_dead_letters import parley
from tests.programs import bare_environ

HANDLERS = """
import asyncio, os
from service import Router
router = Router()

@router.keyword("SLOW")
async def slow(message):
    with open(os.environ["RUNS"], "a") as runs:
        runs.write(message.sid + "\\n")
    if not os.path.exists(os.environ["RUNS"] + ".go"):
        await asyncio.sleep(60)
    return "late"

@router.default
async def echo(message):
    return f"you said {message.body}"
"""


@pytest.fixture
def handlers(tmp_path: Path, deployment: Deployment) -> Path:
    """Handlers of which one takes as long as it is told to."""
    path = tmp_path / "handlers_under_test.py"
    path.write_text(HANDLERS)
    deployment.settings |= {"HANDLERS": str(path), "RUNS": str(tmp_path / "runs")}
    return tmp_path / "runs"


def test_a_text_is_answered_through_the_instance_we_provisioned(
    deployment: Deployment, handlers: Path
) -> None:
    """Nothing works for anybody."""
    deployment.serve()
    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)
    (reply,) = deployment.replies()
    assert (reply["body"], reply["theirs"]) == ("you said hello", "+15005550123")
    assert reply["token_ok"]


def test_a_second_start_uses_the_instance_of_the_first(
    deployment: Deployment, handlers: Path
) -> None:
    """Every restart would leave another instance behind at the connector."""
    for text in ("first", "second"):
        process = deployment.serve()
        deployment.text(text)
        until(lambda text=text: f"you said {text}" in deployment.bodies())
        process.terminate()
        assert process.wait(15) == 0
    assert fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances_created"] == 1


def test_a_kill_between_accept_and_reply_loses_and_doubles_nothing(
    deployment: Deployment, handlers: Path
) -> None:
    """The text of somebody who needs an answer would be lost with the process."""
    process = deployment.serve()
    assert deployment.text("slow")["status"] == 200
    until(handlers.exists)
    process.kill()
    process.wait()
    Path(f"{handlers}.go").touch()
    deployment.serve()
    until(lambda: "late" in deployment.bodies())
    time.sleep(1)
    assert deployment.bodies() == ["late"]
    assert len(handlers.read_text().split()) == 2


def test_a_kill_between_post_and_record_sends_once(deployment: Deployment, handlers: Path) -> None:
    """The reply was out, but nothing here says so: the connector's log has to."""
    process = deployment.serve()
    deployment.text("warm up")
    until(lambda: len(deployment.bodies()) == 1)
    fetch(f"{deployment.sandbox}/sandbox/trouble", {"latency_ms": 3000, "count": 1})
    assert deployment.text("hello")["status"] == 200
    until(lambda: "you said hello" in deployment.bodies())
    process.kill()
    process.wait()
    deployment.serve()
    time.sleep(4)
    assert deployment.bodies() == ["you said warm up", "you said hello"]
    assert '"a reply in doubt had been sent"' in deployment.log()


def test_callbacks_are_accepted_while_the_connector_is_away(
    deployment: Deployment, handlers: Path
) -> None:
    """An outage of the connector must not become an outage of ours."""
    sandbox = deployment.processes[0]
    process = deployment.serve()
    deployment.text("before")
    until(lambda: "you said before" in deployment.bodies())
    sandbox.send_signal(signal.SIGSTOP)
    try:
        answers = [
            deployment.post(*deployment.signed(f"SM{i:032d}", f"text {i}")) for i in range(5)
        ]
        assert answers == [200] * 5
    finally:
        sandbox.send_signal(signal.SIGCONT)
    expected = {f"you said text {i}" for i in range(5)}
    until(lambda: expected <= set(deployment.bodies()), within_s=40)
    assert len(deployment.bodies()) == 6
    process.terminate()
    assert process.wait(15) == 0


@pytest.mark.long
def test_ten_thousand_wrong_signatures_leave_redis_as_it_was(
    deployment: Deployment, handlers: Path
) -> None:
    """Strangers could fill Redis, or make handlers run."""
    deployment.serve("--role", "web")
    with redis.Redis(unix_socket_path=str(deployment.folder / "data" / "redis.sock")) as client:
        before = snapshot(client)
        headers, body = deployment.signed("SM" + "1" * 32, "let me in")
        headers["X-Twilio-Signature"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
        connection = http.client.HTTPConnection(urlsplit(deployment.public).netloc, timeout=10)
        statuses = set()
        for _ in range(10_000):
            connection.request("POST", "/callbacks/twilio", body, headers)
            with connection.getresponse() as answer:
                statuses.add(answer.status)
                answer.read()
        connection.close()
        assert statuses == {403}
        assert snapshot(client) == before
    log = deployment.log()
    assert "let me in" not in log
    assert 1 <= log.count("signature refused") <= 60


def test_the_demo_shows_four_exchanges_and_confirms_the_token(tmp_path: Path) -> None:
    """The first thing a newcomer tries would fail."""
    environ = bare_environ(HOME=str(tmp_path))
    began = time.monotonic()
    demo = subprocess.run(
        [sys.executable, "-m", "service", "demo", "--once"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert len(re.findall(r"← +\d+ ms ", demo.stdout)) >= 4, demo.stdout
    assert "4 of 4 replies carried the instance token" in " ".join(demo.stdout.split())
    assert time.monotonic() - began < 30


def test_missing_settings_are_all_told_at_once_and_end_the_start(tmp_path: Path) -> None:
    """People would mend one setting per start."""
    ran = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        cwd=tmp_path,
        env=bare_environ(HOME=str(tmp_path), REDIS_URL="redis://127.0.0.1:1", TWILIO_SENDER="?"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 2
    for name in ("PUBLIC_URL", "SECRET_KEY"):
        assert f"{name} is missing; example: {name}=" in ran.stderr
    assert "TWILIO_SENDER" in ran.stderr
    assert "TWILIO_AUTH_TOKEN" not in ran.stderr, "it may be typed once the service runs"
    assert "Traceback" not in ran.stderr


def test_another_partition_count_is_refused_with_what_to_do(
    deployment: Deployment, handlers: Path
) -> None:
    """Unsettled messages would lie in partitions nobody looks into."""
    deployment.serve().terminate()
    deployment.processes[-1].wait(15)
    process = deployment.serve(ready=False, PARTITIONS="8")
    assert process.wait(20) == 2
    assert "set PARTITIONS=16" in deployment.log()


def test_a_broken_handlers_file_ends_the_start_with_its_line(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Callbacks would be accepted that nobody can answer."""
    path = tmp_path / "broken_handlers.py"
    path.write_text("from service import Router\nrouter = Router()\nimport no_such_module\n")
    process = deployment.serve(ready=False, HANDLERS=str(path))
    assert process.wait(20) == 2
    assert f"{path}:3:" in deployment.log()


def test_several_processes_share_the_listeners_and_the_work(
    deployment: Deployment, handlers: Path
) -> None:
    """--processes would be a promise on paper."""
    supervisor = deployment.serve("--processes", "2")
    for i in range(40):
        assert deployment.text(f"text {i}", theirs=f"+1500555{i:04d}")["status"] == 200
    until(lambda: len(deployment.bodies()) == 40)
    supervisor.terminate()
    assert supervisor.wait(20) == 0


def snapshot(client: redis.Redis) -> dict[bytes, bytes | None]:
    """Every key and its serialised value, leases and the register of workers left out."""
    keys = [key for key in client.scan_iter("*") if not key.startswith(b"parley:{workers}")]
    return {key: client.dump(key) for key in sorted(keys)}


@pytest.fixture
def nowhere() -> Iterator[int]:
    """Keep a port where nobody listens, and nobody else can."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1]


def test_ready_says_which_part_is_not_and_why(deployment: Deployment, nowhere: int) -> None:
    """In a container there is no curl, and an operator has to know what is missing."""
    deployment.settings["INTERNAL_PORT"] = str(nowhere)
    assert "nobody answers" in parley(deployment, "ready", status=1)
    deployment.settings["INTERNAL_PORT"] = deployment.sandbox.rpartition(":")[2]
    assert "is no Parley" in parley(deployment, "ready", status=1)
    deployment.settings["INTERNAL_PORT"] = deployment.internal.rpartition(":")[2]
    connector = f"http://127.0.0.1:{nowhere}/elements/api-v2"
    service = deployment.serve(ready=False, OPEN_CONNECTORS_BASE_URL=connector)
    until(lambda: "the instance is not provisioned yet" in deployment.log())
    assert "instance NOT READY: the instance" in parley(deployment, "ready", status=1)
    service.terminate()
    service.wait(15)
    deployment.serve(ready=False)
    assert "instance ok" in parley(deployment, "ready", "--wait", "20")
    assert json.loads(parley(deployment, "ready", "--json"))["ready"] is True


def test_routes_are_looked_at_before_anything_listens(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A service that can answer nobody would take texts, and a hidden route be found by nobody."""
    path = tmp_path / "routes.py"
    path.write_text("from service import Router\nrouter = Router()\n")
    assert deployment.serve(ready=False, HANDLERS=str(path)).wait(20) == 2
    assert f"{path}:2: the router has no routes" in deployment.log()

    path.write_text(
        path.read_text() + "@router.pattern('bal')\ndef near(message): ...\n"
        "@router.keyword('BALANCE')\ndef balance(message): ...\n"
    )
    deployment.serve(HANDLERS=str(path))
    assert f"{path}:5: keyword BALANCE is not reached" in deployment.log()
