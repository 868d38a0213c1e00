"""Dead letters from the command line: seen, replayed after the mistake is mended, answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.conftest import ROOT, Deployment, until
from tests.programs import bare_environ

HANDLERS = """
from service import Router
router = Router()

@router.pattern(r"order (?P<number>\\w+)")
async def order(message, number):
    {body}

@router.default
async def echo(message):
    return f"you said {{message.body}}"
"""


def parley(deployment: Deployment, *arguments: str, status: int = 0) -> str:
    """Run a command with the deployment's settings; returns what it printed."""
    environ = bare_environ("HOME", CONFIG_DIR=str(ROOT / "config"), COLUMNS="200")
    ran = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environ | deployment.settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


def test_a_mistake_in_a_handler_is_found_mended_and_replayed(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A text that met a defect of ours would stay unanswered for ever."""
    path = tmp_path / "handlers_with_a_mistake.py"
    path.write_text(HANDLERS.format(body="return {}['price']"))
    deployment.settings |= {"HANDLERS": str(path), "HANDLER_ATTEMPTS": "2", "RETRY_FIRST_S": "0.1"}
    process = deployment.serve()
    for number in ("A1", "A2"):
        assert deployment.text(f"order {number}")["status"] == 200
    assert deployment.text("hello")["status"] == 200
    until(lambda: deployment.bodies() == ["you said hello"])
    listed = parley(deployment, "dead", "list")
    assert listed.count("KeyError: 'price'") == 2
    assert "+15005550123" in listed
    letters = json.loads(parley(deployment, "dead", "list", "--json"))
    assert [(letter["body"], letter["tries"]) for letter in letters] == [
        ("order A1", 2),
        ("order A2", 2),
    ]
    assert "order A1" in parley(deployment, "dead", "show", letters[0]["id"])

    process.terminate()
    assert process.wait(15) == 0
    path.write_text(HANDLERS.format(body='return f"order {number} is on its way"'))
    replayed = parley(deployment, "dead", "replay", "--all", "--error", "keyerror", "--json")
    assert json.loads(replayed) == {"replayed": 2, "missing": [], "full": []}
    none = parley(deployment, "dead", "replay", "--all", "--error", "keyerror", "--json")
    assert json.loads(none) == {"replayed": 0, "missing": [], "full": []}
    deployment.serve()
    until(lambda: len(deployment.bodies()) == 3)
    assert deployment.bodies()[1:] == ["order A1 is on its way", "order A2 is on its way"]
    assert "There are no dead letters." in parley(deployment, "dead", "list")


def test_a_refused_reply_is_a_dead_letter_at_once_and_can_be_dropped(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Retrying what Twilio will never accept holds up the conversation."""
    path = tmp_path / "handlers_with_nobody_to_send_to.py"
    path.write_text(
        "from service import Reply, Router\nrouter = Router()\n"
        "@router.default\nasync def echo(message):\n    return 'x' * 1600\n"
    )
    deployment.settings |= {"HANDLERS": str(path)}
    deployment.serve()
    deployment.trouble(status=400, count=1)
    deployment.text("first")
    deployment.text("second")
    until(lambda: len(deployment.bodies()) == 1)
    letters = json.loads(parley(deployment, "dead", "list", "--json"))
    assert [(letter["kind"], letter["tries"]) for letter in letters] == [("reply", 1)]
    dropped = parley(deployment, "dead", "drop", letters[0]["id"], "--yes", "--json")
    assert json.loads(dropped) == {"dropped": 1, "missing": [], "full": []}
    gone = parley(deployment, "dead", "drop", letters[0]["id"], "--yes", "--json", status=1)
    assert json.loads(gone) == {"dropped": 0, "missing": [letters[0]["id"]], "full": []}
    assert "no such dead letter" in parley(
        deployment, "dead", "drop", letters[0]["id"], "--yes", status=1
    )


@pytest.mark.long
def test_a_command_that_says_too_little_is_told_what_to_say(deployment: Deployment) -> None:
    """A bare `parley dead drop` must not mean all of them."""
    assert "say which" in parley(deployment, "dead", "drop", "--yes", status=2)
    assert "no such dead letter: 1-2-3" in parley(deployment, "dead", "show", "1-2-3", status=1)
    assert "30m, 2h or 7d" in parley(
        deployment, "dead", "list", "--older-than", "yesterday", status=2
    )
    assert "hundred years" in parley(
        deployment, "dead", "list", "--older-than", "99999999d", status=2
    )
    for option in ("--older-than", "--error", "--number"):
        said = parley(deployment, "dead", "drop", "--all", option, "", "--yes", status=2)
        assert f"{option} is empty" in said
    assert "dead letters like that" in parley(deployment, "dead", "list", "--older-than", "1d")


DEADLY = """
import os
from service import Router
router = Router()

@router.keyword("DIE")
async def die(message):
    with open(os.environ["RUNS"], "a") as runs:
        runs.write("died\\n")
    os._exit(1)

@router.default
async def echo(message):
    return f"you said {message.body}"
"""


def test_a_message_that_kills_its_process_ends_as_a_dead_letter(
    deployment: Deployment, tmp_path: Path
) -> None:
    """One text would bring the service down, again and again, for everybody."""
    path = tmp_path / "deadly_handlers.py"
    path.write_text(DEADLY)
    runs = tmp_path / "runs"
    deployment.settings |= {"HANDLERS": str(path), "RUNS": str(runs), "HANDLER_ATTEMPTS": "2"}
    deployment.serve("--processes", "2")
    assert deployment.text("die")["status"] == 200
    # The door dies with its process now and then; Twilio tries those again, the sandbox once.
    accepted = [
        f"you said text {i}"
        for i in range(30)
        if deployment.text(f"text {i}", theirs=f"+1500555{i:04d}")["status"] == 200
    ]
    assert len(accepted) >= 10

    def buried() -> list[dict[str, str]]:
        return list(json.loads(parley(deployment, "dead", "list", "--json")))

    # The log is looked at first: each command is a process.
    until(lambda: "message becomes a dead letter" in deployment.log(), within_s=40)
    (letter,) = until(buried, every_s=0.5)
    assert (letter["body"], letter["route"]) == ("die", "keyword DIE")
    assert "begun and never ended" in letter["error"]
    assert runs.read_text().split() == ["died"] * 2
    until(lambda: set(accepted) <= set(deployment.bodies()))
    assert len(set(deployment.bodies())) == len(deployment.bodies())


def test_a_handlers_error_that_quotes_the_text_is_not_logged(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Log collectors would hold what people wrote, and their passwords with it."""
    path = tmp_path / "quoting_handlers.py"
    path.write_text(
        "from service import Router\nrouter = Router()\n"
        "@router.default\nasync def count(message):\n    return str(int(message.body))\n"
    )
    deployment.settings |= {"HANDLERS": str(path), "HANDLER_ATTEMPTS": "2", "RETRY_FIRST_S": "0.1"}
    deployment.serve()
    deployment.text("my word is heron")
    until(lambda: "becomes a dead letter" in deployment.log())
    assert "heron" not in deployment.log()
    assert f"ValueError at {path}:5" in deployment.log()
    assert "heron" in parley(deployment, "dead", "list")


STOP_BY_NAME = """
from service import Router
router = Router()

@router.keyword("STOP")
async def goodbye(message):
    return "this may not be sent"

@router.default
async def echo(message):
    return f"you said {message.body}"
"""


@pytest.mark.long
def test_twilio_fact_11_who_opts_out_is_left_alone_and_listed_until_they_are_in_again(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A text after STOP is forbidden; one that is tried again and again gets a number blocked."""
    path = tmp_path / "stop_by_name.py"
    path.write_text(STOP_BY_NAME)
    deployment.settings |= {"HANDLERS": str(path)}
    deployment.serve()
    deployment.text("HELP")
    deployment.text("hello")
    until(lambda: deployment.bodies() == ["you said hello"])
    deployment.text("Stop")
    until(lambda: "a reply becomes a dead letter" in deployment.log())
    until(lambda: "21610" in parley(deployment, "dead", "list"))
    [letter] = json.loads(parley(deployment, "dead", "list", "--json"))
    assert (letter["tries"], letter["body"]) == (1, "this may not be sent")
    [out] = json.loads(parley(deployment, "optouts", "--json"))
    assert (out["ours"], out["theirs"]) == ("+15005550100", "+15005550123")
    assert "+15005550123 of +15005550100" in parley(deployment, "optouts")
    deployment.text("START")
    deployment.text("again")
    until(lambda: deployment.bodies() == ["you said hello", "you said again"])
    assert parley(deployment, "optouts") == "Nobody has opted out.\n"
    assert len(json.loads(parley(deployment, "dead", "list", "--json"))) == 1
