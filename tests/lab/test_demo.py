"""`parley demo` as somebody runs it who tries handlers of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.host.listeners import listen
from tests.flow.conftest import ROOT, fetch, until

HANDLERS = """
import os
from service import Router
router = Router()

@router.keyword("BALANCE")
def balance(message):
    return "before"

@router.keyword("MINE")
def mine(message):
    return os.environ["WORD_OF_MINE"]

@router.pattern("fail")
def fail(message):
    raise ValueError("no such customer")
"""

Start = Callable[..., "Running"]


class Running:
    """A demo that runs on, and what it has printed so far."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self._printed = folder / "printed"
        base = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "demo", *arguments],
                cwd=folder,
                env=base | environ,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

    def told(self) -> str:
        """Everything printed, each run of blanks and line ends as one blank."""
        return " ".join(self._printed.read_text(errors="replace").split())

    def find(self, pattern: str, within_s: float = 40) -> re.Match[str]:
        """Wait until it has printed something."""
        until(lambda: re.search(pattern, self.told()) or self.process.poll(), within_s)
        found = re.search(pattern, self.told())
        assert found, self.told()
        return found

    def phone(self) -> str:
        """Wait until it can be texted; returns the phone page's address."""
        return self.find(r"Text it yourself: (\S+)")[1]

    def answer(self, body: str, within_s: float = 20) -> str:
        """Text it; returns what the next reply says."""
        url = self.phone()
        before = len(fetch(f"{url}/sandbox/records")[1]["replies"])
        assert fetch(f"{url}/sandbox/texts", {"body": body})[1]["status"] == 200
        replies = until(lambda: fetch(f"{url}/sandbox/records")[1]["replies"][before:], within_s)
        return str(replies[0]["body"])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a demo in a folder of its own; it ends with the test, and leaves nothing behind."""
    started: list[Running] = []

    def run(*arguments: str, **environ: str) -> Running:
        started.append(Running(tmp_path, arguments, environ))
        return started[-1]

    yield run
    for each in started:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGINT)
            each.process.wait(40)


@pytest.fixture
def handlers(tmp_path: Path) -> Path:
    """Handlers of somebody's own."""
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "handlers.py"
    path.write_text(HANDLERS)
    return path


def free_ports() -> int:
    """Find a port that is free with the two after it."""
    for port in range(21_000, 29_000, 3):
        with contextlib.ExitStack() as stack:
            try:
                for each in range(port, port + 3):
                    stack.enter_context(contextlib.closing(listen("127.0.0.1", each, "--port")))
            except SettingsError:  # taken: the next three
                continue
            return port
    raise AssertionError("no three free ports in a row")


def test_a_handlers_file_is_tried_while_it_is_written(
    start: Callable[..., Running], handlers: Path
) -> None:
    """An author would restart the demo, and look for its port, after every line."""
    port = free_ports()
    demo = start(
        *("--handlers", str(handlers), "--reload", "--port", str(port)),
        HANDLER_ATTEMPTS="1",
        WORD_OF_MINE="from the environment",
        REDIS_URL="redis://127.0.0.1:1",
        TWILIO_SENDER="+14155550199",
    )
    assert demo.phone() == f"http://127.0.0.1:{port}"
    assert demo.answer("balance") == "before"
    assert demo.answer("mine") == "from the environment"
    known = fetch(f"{demo.phone()}/sandbox/threads")[1]
    assert known["our_number"] == "+15005550100"
    assert known["service"]["texts"] == ["BALANCE", "MINE"]
    assert known["service"]["also"] == ["what the pattern fail finds"]
    assert known["service"]["looks_every_s"] == 15

    # A dead letter at the first failure, as HANDLER_ATTEMPTS says, and within reach.
    fetch(f"{demo.phone()}/sandbox/texts", {"body": "fail"})
    command = demo.find(r"works so\): (\(\. .*? dead list\))")[1]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    def dead() -> str:
        ran = subprocess.run(
            ["sh", "-c", command],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "no such customer" in until(lambda: "customer" in (said := dead()) and said)

    handlers.write_text(HANDLERS.replace("before", "after").replace("BALANCE", "POINTS"))
    demo.find(r"Ready after [\d.]+ s")
    assert demo.answer("points") == "after"
    assert fetch(f"{demo.phone()}/sandbox/threads")[1]["service"]["texts"] == ["POINTS", "MINE"]

    handlers.write_text("import no_such_module\n")
    demo.find("does not start with them")
    time.sleep(1)
    assert demo.process.poll() is None
    handlers.write_text(HANDLERS.replace("before", "mended"))
    demo.find(r"Ready after .*Ready after")
    assert demo.answer("balance") == "mended"


def test_a_port_that_is_taken_is_replaced_or_refused(start: Callable[..., Running]) -> None:
    """Two demos would be one too many, or a bookmark would lead to another program."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it: as good
            taken.bind(("127.0.0.1", 9090))
            taken.listen()
        demo = start("--once")
        demo.find("Port 9090 is taken: the phone page is at [0-9]+ instead")
        assert demo.process.wait(60) == 0
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        refused = start("--port", str(min(port, 65533)))
        assert refused.process.wait(30) == 2
        assert f"--port: 127.0.0.1:{port} is not to be had" in refused.told()


def test_the_transcript_says_who_speaks_and_what_the_times_are(
    start: Callable[..., Running],
) -> None:
    """A newcomer would take the arrows and figures for decoration."""
    demo = start("--once", "--port", "0")
    assert demo.process.wait(60) == 0
    told = demo.told()
    assert "the time from text sent to reply there" in told
    assert re.search(r"phone \+15005550123 → echo good morning", told)
    assert re.search(r"Parley \+15005550100 ← \d+ ms good morning", told)


def test_a_redis_that_a_file_names_is_left_alone(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    """A demo in the folder of a deployment would write into that deployment's Redis."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "service.toml").write_text('redis_url = "redis://127.0.0.1:1"\n')
    demo = start("--once", "--port", "0")
    assert demo.process.wait(30) == 2
    assert "REDIS_URL is set at config/service.toml:1" in demo.told()


def test_reload_needs_a_file_to_watch(start: Callable[..., Running]) -> None:
    """It would watch nothing, and say nothing of it."""
    demo = start("--reload")
    assert demo.process.wait(30) == 2
    assert "--handlers" in demo.told()


def test_a_demo_with_nothing_set_up_says_what_to_type_and_answers_once_that_is_done(
    start: Start,
) -> None:
    """The walk from nothing to an answered text could be shown with a real account alone."""
    demo = start("--connect", "--port", "0")
    url = demo.phone()
    assert "/console/sign-in?token=" in demo.told()
    pairs = re.findall(r"(OPEN_CONNECTORS_\w+|TWILIO_\w+) (\S+)", demo.told())
    typed = {name: value for name, value in pairs if value not in {"and", "page,"}}
    assert fetch(f"{url}/sandbox/texts", {"body": "echo early"})[1]["status"] != 200
    body = {
        "openConnectors": {
            "baseUrl": typed["OPEN_CONNECTORS_BASE_URL"],
            "userSecret": typed["OPEN_CONNECTORS_USER_SECRET"],
            "organizationSecret": typed["OPEN_CONNECTORS_ORGANIZATION_SECRET"],
        },
        "configuration": {
            "messaging.sms.twilio.account": typed["TWILIO_ACCOUNT_SID"],
            "messaging.sms.twilio.token": typed["TWILIO_AUTH_TOKEN"],
            "messaging.sms.twilio.sender": typed["TWILIO_SENDER"],
        },
    }
    settings = demo.find(r"\(\. (\S+/settings) &&")[1]
    command = f"set -a && . {settings} && {sys.executable} -m service connect --file - --yes"
    subprocess.run(
        ["sh", "-c", command],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)},
        input=json.dumps(body),
        text=True,
        check=True,
        timeout=30,
    )
    until(lambda: fetch(f"{url}/sandbox/texts", {"body": "echo hello"})[1]["status"] == 200)
    until(lambda: fetch(f"{url}/sandbox/records")[1]["replies"])
