"""Handlers that block their event loop, or are in the middle of something while all is frozen."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from service.core.partitions import partition_of
from service.model import Conversation
from tests.flow.conftest import OUR_NUMBER, Deployment, until
from tests.flow.fleet import LEASE_S, Fleet

BLOCKING = """
import asyncio, os, pathlib, time
from service import Router
router = Router()
noted = pathlib.Path(os.environ["NOTED"])

def note(word):
    with noted.open("a") as file:
        file.write(word + "\\n")

@router.pattern(r"^block (?P<seconds>[0-9.]+)")
async def block(message, seconds):
    first = not noted.exists()
    note("began")
    if first:
        time.sleep(float(seconds))  # the line that blocks
    note("ended")
    return "blocked no more"

@router.pattern(r"^wait (?P<seconds>[0-9.]+)")
async def wait(message, seconds):
    await asyncio.sleep(float(seconds))
    return "waited"

@router.default
async def echo(message):
    return message.body
"""

CULPRIT = "+15005550123"


def neighbour() -> str:
    """Find a phone whose conversation lies in the culprit's partition."""
    own = partition_of(Conversation(OUR_NUMBER, CULPRIT), 16)
    numbers = (f"+1500555{n:04}" for n in range(1000, 2000))
    return next(n for n in numbers if partition_of(Conversation(OUR_NUMBER, n), 16) == own)


@pytest.fixture
def noted(tmp_path: Path, deployment: Deployment) -> Path:
    """Handlers that block, and the file in which they note when they do."""
    path = tmp_path / "handlers_that_block.py"
    path.write_text(BLOCKING)
    deployment.settings |= {"HANDLERS": str(path), "NOTED": str(tmp_path / "noted")}
    return tmp_path / "noted"


def test_a_handler_that_blocks_holds_up_its_own_conversation_alone(
    deployment: Deployment, noted: Path
) -> None:
    """One time.sleep in a handler: all phones wait, and every lease is lost again and again."""
    deployment.settings["HANDLER_TIMEOUT_S"] = "3"
    deployment.serve()
    deployment.text("wait 0")
    until(lambda: deployment.bodies() == ["waited"])
    deployment.text("block 7")  # LEASE_TTL_S is 2
    until(noted.exists)
    deployment.text("behind it")
    took_s = []
    for number in range(4):
        body = f"beside {number}"
        began = time.monotonic()
        deployment.text(body, theirs=neighbour())
        until(lambda body=body: body in deployment.bodies(), every_s=0.01)
        took_s.append(time.monotonic() - began)
    assert max(took_s) < 1, took_s
    lines = [json.loads(line) for line in deployment.log().splitlines()]
    (told,) = [line for line in lines if "blocks the handlers' event loop" in line["event"]]
    place = noted.parent / "handlers_that_block.py"
    number = next(
        n for n, line in enumerate(BLOCKING.splitlines(), 1) if "the line that blocks" in line
    )
    assert told["at"] == f"{place}:{number}"
    assert told["route"].startswith("pattern")
    assert noted.read_text().split() == ["began"], "told while it blocks"

    until(lambda: "behind it" in deployment.bodies(), within_s=30)
    assert noted.read_text().split() == ["began", "ended", "began", "ended"], "never two at once"
    assert deployment.bodies()[-2:] == ["blocked no more", "behind it"]
    log = deployment.log()
    assert "lost" not in log
    assert "took longer than 3 s and blocked the event loop" in log


@pytest.mark.long
def test_a_stop_does_not_wait_for_a_blocked_handler(deployment: Deployment, noted: Path) -> None:
    """Every deployment would wait to be killed by its platform, the embedded Redis with it."""
    process = deployment.serve()
    deployment.text("block 60")
    until(noted.exists)
    asked = time.monotonic()
    process.terminate()
    assert process.wait(15) == 0
    assert time.monotonic() - asked < 10
    assert deployment.bodies() == []
    deployment.serve()
    until(lambda: deployment.bodies() == ["blocked no more"])


FROZEN = """
import asyncio, os, pathlib, time
from service import Router
router = Router()
noted = pathlib.Path(os.environ["NOTED"])

@router.default
async def step(message):
    begun = time.monotonic()
    for _ in range(100):
        with noted.open("a") as file:
            file.write(f"{os.getpid()} {begun} {time.monotonic()}\\n")
        await asyncio.sleep(0.03)
    return "done"
"""


def test_a_handler_frozen_for_longer_than_its_lease_takes_no_further_step(tmp_path: Path) -> None:
    """Two handlers of one conversation would run at once, one of them on a worker that woke up."""
    fleet = Fleet(tmp_path)
    handlers, noted = tmp_path / "handlers_that_note.py", tmp_path / "noted"
    handlers.write_text(FROZEN)
    fleet.settings |= {"HANDLERS": str(handlers), "NOTED": str(noted)}

    def steps() -> list[tuple[str, float]]:
        words = [line.split() for line in noted.read_text().splitlines() if line.count(" ") == 2]
        return [(f"{pid} {begun}", float(at)) for pid, begun, at in words]

    try:
        fleet.start()
        fleet.text("go")
        until(lambda: noted.exists() and len(steps()) > 10, every_s=0.01)
        first = steps()[0][0]
        (worker,) = [each for each in fleet.workers if first.startswith(f"{each.pid} ")]
        worker.send_signal(signal.SIGSTOP)
        until(lambda: steps()[-1][0] != first, within_s=LEASE_S * 3)
        woken = time.monotonic()
        worker.send_signal(signal.SIGCONT)
        until(lambda: fleet.bodies() == ["done"])
        late_s = [at - woken for run, at in steps() if run == first and at > woken]
        # The freeze may have fallen into the middle of a step, which then ends.
        assert len(late_s) <= 1, late_s
    finally:
        fleet.close()
