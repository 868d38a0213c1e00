"""`parley connect`, typed beside the real sandbox: from nothing to a setup in use."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from service.operate.setup import Setup
from service.settings.setup import load_given
from service.store.connection import connect
from tests.cli.test_commands import ROOT
from tests.connector.pieces import ORGANIZATION, OURS, USER
from tests.sandboxed import environ

__all__ = ["environ"]

pytestmark = pytest.mark.anyio

GIVEN = ("PUBLIC_URL", "REDIS_URL", "SECRET_KEY")
HERE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}


def setup_file(folder: Path, environ: dict[str, str], **changed: Any) -> Path:
    """Write a whole setup into a file."""
    body = {
        "openConnectors": {
            "baseUrl": environ["OPEN_CONNECTORS_BASE_URL"],
            "userSecret": environ["OPEN_CONNECTORS_USER_SECRET"],
            "organizationSecret": environ["OPEN_CONNECTORS_ORGANIZATION_SECRET"],
        },
        "element": {"key": "twilio"},
        "configuration": {
            "messaging.sms.twilio.protocol": "sms",
            "messaging.sms.twilio.account": environ["TWILIO_ACCOUNT_SID"],
            "messaging.sms.twilio.sender": environ["TWILIO_SENDER"],
            "messaging.sms.twilio.token": environ["TWILIO_AUTH_TOKEN"],
        },
        "tags": ["parley"],
        "name": "Front desk",
    }
    path = folder / "setup.json"
    path.write_text(json.dumps(body | changed))
    return path


def bare(environ: dict[str, str]) -> dict[str, str]:
    """The settings of a service that nobody has set up."""
    return {name: environ[name] for name in GIVEN}


async def run(
    environ: dict[str, str], *arguments: str, stdin: str = "", status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `parley connect ...` without a terminal; no output of it has a secret."""
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "service", "connect", *arguments],
        env=HERE | environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ran.stdout + ran.stderr
    assert "Traceback" not in said, said
    for secret in (USER, ORGANIZATION):
        assert secret not in said
    assert ran.returncode == status, said
    return ran


async def test_a_file_sets_the_service_up(environ: dict[str, str], tmp_path: Path) -> None:
    """A deployment by scripts would have to be clicked together."""
    file = str(setup_file(tmp_path, environ))
    shown = await run(bare(environ), "--file", file, "--plan", "--json")
    assert json.loads(shown.stdout)["used"] is False
    done = await run(bare(environ), "--file", file, "--yes", "--json")
    told = json.loads(done.stdout)
    assert (told["version"], told["used"], told["plan"][0]) == (1, True, "create an instance")
    client = connect(environ["REDIS_URL"])
    state = await Setup(client, load_given(environ=bare(environ))).look()
    await client.aclose()
    assert (state.complete, state.entries["instance_name"].value) == (True, "Front desk")
    piped = await run(bare(environ), "--file", "-", "--yes", stdin=Path(file).read_text())
    assert "Setup 2 is in use" in piped.stdout


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"nme": "x"}, "setup.json: nme: is none of openConnectors"),
        ({"configuration": {"my.own": "x"}}, "my.own: is no entry of twilio"),
        ({"tags": ["a", "b"]}, "tags: is a list of one tag"),
        ({"name": 7}, "name: must be text in quotes"),
        ({"name": "${INSTANCE_NAME}"}, "name: is a placeholder; write the value"),
        ({"openConnectors": {"user": "x"}}, "openConnectors.user: is none of baseUrl"),
        (
            {"configuration": {"messaging.sms.twilio.account": "ACx"}},
            "TWILIO_ACCOUNT_SID is not an account SID",
        ),
    ],
)
async def test_a_file_with_a_mistake_says_where(
    environ: dict[str, str], tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    """Somebody would search a file for what is wrong in it."""
    file = setup_file(tmp_path, environ, **changed)
    ran = await run(bare(environ), "--file", str(file), "--yes", status=2)
    assert told in ran.stderr


async def test_secrets_that_are_refused_are_an_error_and_nothing_is_used(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """A service that works would stop."""
    access = {"baseUrl": environ["OPEN_CONNECTORS_BASE_URL"], "userSecret": "wr0ng-secret"}
    access["organizationSecret"] = environ["OPEN_CONNECTORS_ORGANIZATION_SECRET"]
    file = setup_file(tmp_path, environ, openConnectors=access)
    ran = await run(bare(environ), "--file", str(file), "--yes", status=1)
    assert "401" in ran.stderr
    assert "wr0ng-secret" not in ran.stderr
    client = connect(environ["REDIS_URL"])
    state = await Setup(client, load_given(environ=bare(environ))).look()
    await client.aclose()
    assert (state.version, state.drafted) == (0, True)
    assert "forgotten" in (await run(bare(environ), "--discard")).stdout


async def test_without_a_terminal_and_a_file_it_says_what_to_do(environ: dict[str, str]) -> None:
    """A script would wait for ever."""
    ran = await run(bare(environ), status=2)
    assert "name a file with --file" in ran.stderr


def answer(environ: dict[str, str], answers: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Run `parley connect` on a terminal; type each answer when its question stands there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "connect"],
        env=HERE | environ | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said, read, left = "", 0, list(answers)
    try:
        while select.select([ours], [], [], 60)[0] and (part := os.read(ours, 65536)):
            said += part.decode()
            if left and left[0][0] in said[read:] and said.endswith(": "):
                read = len(said)
                os.write(ours, left.pop(0)[1].encode() + b"\n")
    except OSError:
        pass  # how a terminal ends on Linux
    finally:
        os.close(ours)
        process.wait(30)
    assert not left, said
    return process.returncode, said


async def test_a_person_is_asked_step_by_step(environ: dict[str, str]) -> None:
    """Somebody with a SID and a token would have to know the settings' names."""
    answers = [
        ("BASE_URL", environ["OPEN_CONNECTORS_BASE_URL"]),
        ("USER_SECRET", "wr0ng-secret"),
        ("ORGANIZATION_SECRET", ORGANIZATION),
        ("BASE_URL", ""),
        ("USER_SECRET (kept; Enter keeps it)", USER),
        ("ORGANIZATION_SECRET (kept; Enter keeps it)", ""),
        ("TWILIO_ACCOUNT_SID", "ACx"),
        ("TWILIO_ACCOUNT_SID", environ["TWILIO_ACCOUNT_SID"]),
        ("TWILIO_AUTH_TOKEN", environ["TWILIO_AUTH_TOKEN"]),
        ("TWILIO_SENDER", OURS),
        ("CONNECTOR_ELEMENT", ""),
        ("INSTANCE_NAME", ""),
        ("INSTANCE_TAG", ""),
        ("Use it from now on?", "y"),
    ]
    status, said = await asyncio.to_thread(answer, bare(environ), answers)
    assert status == 0, said
    assert "401" in said
    assert "Open Connectors takes these secrets" in said
    assert "TWILIO_ACCOUNT_SID is not an account SID" in said
    assert "create an instance" in said
    assert "Setup 1 is in use" in said
    for secret in (USER, ORGANIZATION, "wr0ng-secret", environ["TWILIO_AUTH_TOKEN"]):
        assert secret not in said


async def test_what_can_not_be_typed_is_not_asked_for_again_and_again(
    environ: dict[str, str],
) -> None:
    """The connector would be asked as fast as it refuses."""
    access = {name: environ[name] for name in environ if name.startswith("OPEN_CONNECTORS")}
    wrong = bare(environ) | access | {"OPEN_CONNECTORS_USER_SECRET": "wr0ng-secret"}
    status, said = await asyncio.to_thread(answer, wrong, [])
    assert status == 1, said
    assert said.count("401") == 1
