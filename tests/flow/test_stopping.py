"""A clean stop: nothing new is begun, what is under way ends, the rest stays for the next start."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.flow.conftest import Deployment, until

HANDLERS = """
import asyncio, os, pathlib, time
from service import Router
router = Router()
begun = pathlib.Path(os.environ["BEGUN"])

@router.pattern(r"^wait (?P<seconds>[0-9.]+)")
async def wait(message, seconds):
    with begun.open("a") as file:
        file.write(message.sid + "\\n")
    await asyncio.sleep(float(seconds))
    return "done waiting"

@router.pattern(r"^block (?P<seconds>[0-9.]+)")
def block(message, seconds):
    with begun.open("a") as file:
        file.write(message.sid + "\\n")
    time.sleep(float(seconds))
    return "done blocking"
"""


LONG = pytest.mark.long


@pytest.fixture
def begun(tmp_path: Path, deployment: Deployment) -> Path:
    """Handlers that take as long as the text says, and the file they note their start in."""
    path = tmp_path / "handlers_that_wait.py"
    path.write_text(HANDLERS)
    deployment.settings |= {"HANDLERS": str(path), "BEGUN": str(tmp_path / "begun")}
    return tmp_path / "begun"


@pytest.mark.parametrize("way", ["wait", pytest.param("block", marks=LONG)])
def test_a_handler_under_way_finishes_and_its_reply_is_sent(
    deployment: Deployment, begun: Path, way: str
) -> None:
    """Every deployment would make people wait for the next start, or be answered late."""
    process = deployment.serve()
    deployment.text(f"{way} 1.5")
    until(begun.exists)
    process.terminate()
    assert process.wait(15) == 0
    assert deployment.bodies() == [f"done {way}ing"]
    assert len(begun.read_text().split()) == 1


@pytest.mark.long
def test_a_handler_that_takes_too_long_is_left_for_the_next_start(
    deployment: Deployment, begun: Path
) -> None:
    """A platform kills what does not stop in ten seconds; the text must survive it, uncounted."""
    deployment.settings["HANDLER_ATTEMPTS"] = "1"
    process = deployment.serve()
    deployment.text("wait 60")
    until(begun.exists)
    asked = time.monotonic()
    process.terminate()
    assert process.wait(15) == 0
    assert time.monotonic() - asked < 10
    assert deployment.bodies() == []

    handlers = begun.parent / "handlers_that_wait.py"
    handlers.write_text(HANDLERS.replace("float(seconds)", "0"))
    deployment.serve()
    until(lambda: deployment.bodies() == ["done waiting"])


def test_the_post_of_a_handler_that_took_all_of_the_grace_is_not_cut_off(
    deployment: Deployment, begun: Path
) -> None:
    """The reply would be in doubt, and wait for the next start, which may be days away."""
    process = deployment.serve()
    deployment.trouble(delay_ms=850, count=1)
    deployment.text("wait 7.4")
    until(begun.exists)
    time.sleep(0.5)
    asked = time.monotonic()
    process.terminate()
    assert process.wait(15) == 0
    assert 7.5 < time.monotonic() - asked < 10
    assert "not everything stopped in time" not in deployment.log()
    assert deployment.bodies() == ["done waiting"]


@pytest.mark.parametrize("reason", ["Retry-After", pytest.param("no instance yet", marks=LONG)])
def test_a_reply_that_waits_does_not_hold_up_a_stop_and_is_sent_after_the_next_start(
    deployment: Deployment, begun: Path, reason: str
) -> None:
    """Every deployment during a throttling would take seconds more, on each machine in turn."""
    asked_s = 14
    process = deployment.serve()
    if reason == "Retry-After":
        deployment.trouble(status=429, retry_after_s=asked_s, count=1)
    else:
        process.terminate()
        assert process.wait(15) == 0
        process = deployment.serve(ready=False, OPEN_CONNECTORS_USER_SECRET="wrong")
    until(lambda: deployment.text("wait 0")["status"] == 200)
    texted = time.monotonic()
    until(begun.exists)
    until(lambda: reason != "Retry-After" or "a reply waits" in deployment.log())
    stopping = time.monotonic()
    process.terminate()
    assert process.wait(15) == 0
    assert time.monotonic() - stopping < 5, "the grace is 7 s"
    assert deployment.bodies() == []

    deployment.serve()
    until(lambda: deployment.bodies() == ["done waiting"], within_s=40)
    if reason == "Retry-After":
        assert time.monotonic() - texted > asked_s - 1
    assert len(begun.read_text().split()) == 1
    time.sleep(1)
    assert deployment.bodies() == ["done waiting"], "once"


def test_the_door_answers_what_it_has_begun_and_then_refuses(
    deployment: Deployment, begun: Path
) -> None:
    """A connection cut in the middle of a callback is a text that Twilio may not send again."""
    process = deployment.serve()
    assert deployment.text("wait 0")["status"] == 200
    process.terminate()
    assert process.wait(15) == 0
    assert '"Parley has stopped"' in deployment.log()
    assert "Traceback" not in deployment.log()


LONGEST_S = 14
"""The grace of 7 s, and what follows when something hangs in spite of it, on a busy machine."""


def stopped_within(process: subprocess.Popen[bytes], longest_s: float) -> float:
    """Tell a process to stop and return how long it took."""
    asked = time.monotonic()
    process.terminate()
    process.wait(longest_s + 10)
    took = time.monotonic() - asked
    assert took < longest_s
    return took


@pytest.mark.parametrize("processes", [pytest.param("1", marks=LONG), "2"])
def test_a_stop_ends_although_redis_does_not_answer(
    deployment: Deployment, begun: Path, processes: str
) -> None:
    """A platform would kill it, and the Redis of its own with it, or leave both running."""
    service = deployment.serve("--processes", processes)
    deployment.text("wait 60")
    until(begun.exists)
    server = next(
        each for each in psutil.Process(service.pid).children() if "redis" in each.name().lower()
    )
    server.suspend()
    try:
        stopped_within(service, LONGEST_S)
        assert not server.is_running()
    finally:
        if server.is_running():
            server.resume()

    handlers = begun.parent / "handlers_that_wait.py"
    handlers.write_text(HANDLERS.replace("float(seconds)", "0"))
    deployment.serve()
    until(lambda: deployment.bodies() == ["done waiting"])


@pytest.mark.parametrize(
    "where", [pytest.param("instances", marks=LONG), pytest.param("log", marks=LONG), "all"]
)
def test_a_stop_ends_although_the_connector_does_not_answer(
    deployment: Deployment, begun: Path, where: str
) -> None:
    """The wait for an answer is longer than any platform waits for a stop."""
    deployment.settings |= {"SEND_TIMEOUT_S": "60", "CONNECTOR_WATCH_S": "10"}
    process = deployment.serve()
    if where == "instances":
        stopped_within(process, LONGEST_S)
        deployment.trouble(hang=True, where=where)
        process = deployment.serve(ready=False)
    else:
        deployment.trouble(hang=True, where=where)
    until(lambda: deployment.text("wait 0")["status"] == 200)
    until(begun.exists)
    time.sleep(1)
    stopped_within(process, LONGEST_S)
    deployment.trouble(count=0, where=where)


def test_a_stop_ends_although_a_handlers_thread_does_not(
    deployment: Deployment, begun: Path
) -> None:
    """A thread can't be ended, and the interpreter waits for all of them before it exits."""
    process = deployment.serve()
    deployment.text("block 60")
    deployment.text("wait 0", theirs="+15005550124")
    until(lambda: deployment.bodies() == ["done waiting"])
    stopped_within(process, LONGEST_S)
    # In good order: its text stays in Redis, and it ends with the process.
    assert process.returncode == 0
    assert "a handler is left running: it ends with us" in deployment.log()
    # Nor does the Redis of its own stay behind.
    deployment.serve()
    assert "was still running and is taken over" not in deployment.log()
