"""A clean stop: nothing new is begun, what is under way ends, the rest stays for the next start."""

from __future__ import annotations

import time

import pytest

from tests.flow.conftest import until

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


@pytest.fixture
def begun(tmp_path, deployment):
    """Handlers that take as long as the text says, and the file they note their start in."""
    path = tmp_path / "handlers_that_wait.py"
    path.write_text(HANDLERS)
    deployment.settings |= {"HANDLERS": str(path), "BEGUN": str(tmp_path / "begun")}
    return tmp_path / "begun"


@pytest.mark.parametrize("way", ["wait", "block"])
def test_a_handler_under_way_finishes_and_its_reply_is_sent(deployment, begun, way):
    """Every deployment would make people wait for the next start, or be answered late."""
    process = deployment.serve()
    deployment.text(f"{way} 1.5")
    until(begun.exists)
    process.terminate()
    assert process.wait(15) == 0
    assert deployment.bodies() == [f"done {way}ing"]
    assert len(begun.read_text().split()) == 1


def test_a_handler_that_takes_too_long_is_left_for_the_next_start(deployment, begun):
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


def test_the_door_answers_what_it_has_begun_and_then_refuses(deployment, begun):
    """A connection cut in the middle of a callback is a text that Twilio may not send again."""
    process = deployment.serve()
    assert deployment.text("wait 0")["status"] == 200
    process.terminate()
    assert process.wait(15) == 0
    assert '"Parley has stopped"' in deployment.log()
    assert "Traceback" not in deployment.log()
