"""A whole deployment of the run's own: sandbox, Redis and `parley serve`, each a real process."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright
from twilio.request_validator import RequestValidator

from tests.flow.browser import FLAGS
from tests.programs import bare_environ, program

ROOT = Path(__file__).parents[2]
OUR_NUMBER = "+15005550100"

OpenPage = Callable[..., Page]
"""Opens a page of a browser; see the fixture `open_page`."""


def listener() -> socket.socket:
    """Listen on a free loopback port, for a child to inherit."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("127.0.0.1", 0))
    opened.listen(512)
    return opened


def fetch(url: str, body: Any = None, timeout_s: float = 30) -> tuple[int, Any]:
    """GET, or POST JSON; returns the status and the JSON answer, an error's too."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310  (loopback)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def until(what: Callable[..., Any], within_s: float = 20, every_s: float = 0.05) -> Any:
    """Ask until the answer is true, and return it; fail with the last one after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (answer := what()):
        assert time.monotonic() < deadline, f"still {answer!r} after {within_s} s"
        time.sleep(every_s)
    return answer


class Deployment:
    """Starts and stops the processes of one deployment.

    The listeners belong to it, not to a process: addresses stay the same over restarts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public_listener, self.internal_listener = listener(), listener()
        self.sandbox_listener = listener()
        self.public, self.internal, self.sandbox = (
            f"http://127.0.0.1:{each.getsockname()[1]}"
            for each in (self.public_listener, self.internal_listener, self.sandbox_listener)
        )
        self.account = {
            "OPEN_CONNECTORS_USER_SECRET": secrets.token_hex(8),
            "OPEN_CONNECTORS_ORGANIZATION_SECRET": secrets.token_hex(8),
        }
        self.auth_token = secrets.token_hex(16)
        self.settings = {
            **self.account,
            "PUBLIC_URL": self.public,
            "OPEN_CONNECTORS_BASE_URL": f"{self.sandbox}/elements/api-v2",
            "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
            "TWILIO_AUTH_TOKEN": self.auth_token,
            "TWILIO_SENDER": OUR_NUMBER,
            "SECRET_KEY": secrets.token_hex(32),
            "DATA_DIR": str(folder / "data"),
            "LEASE_TTL_S": "2",
            "RETRY_FIRST_S": "0.2",
            "LOG_FORMAT": "json",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log_path = folder / "service.log"

    @property
    def listeners(self) -> tuple[socket.socket, socket.socket]:
        """What the service listens on: the public one and the internal one."""
        return self.public_listener, self.internal_listener

    def spawn(
        self, *arguments: str, pass_sockets: tuple[socket.socket, ...], **settings: str
    ) -> subprocess.Popen[bytes]:
        """Run `python -m service` with the deployment's settings."""
        environ = bare_environ("HOME", CONFIG_DIR=str(ROOT / "config"))
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", *arguments],
                env=environ | self.settings | settings,
                pass_fds=[each.fileno() for each in pass_sockets],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def start_sandbox(self, **settings: str) -> subprocess.Popen[bytes]:
        """Run the sandbox."""
        fd = str(self.sandbox_listener.fileno())
        sockets = (self.sandbox_listener,)
        process = self.spawn("sandbox", "--fd", fd, pass_sockets=sockets, **settings)
        until(self._sandbox_up)
        return process

    def serve(
        self, *arguments: str, ready: bool = True, **settings: str
    ) -> subprocess.Popen[bytes]:
        """Run `parley serve`; ready: wait until /readyz says so."""
        sockets = self.listeners
        fds = [str(each.fileno()) for each in sockets]
        process = self.spawn(
            "serve",
            "--fd",
            fds[0],
            "--internal-fd",
            fds[1],
            *arguments,
            pass_sockets=sockets,
            **settings,
        )
        if ready:
            self.wait_until_ready(process)
        return process

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for /readyz of a process just started."""

        def ready() -> bool:
            assert process.poll() is None, self.log()
            with contextlib.suppress(OSError):
                return fetch(f"{self.internal}/readyz", timeout_s=5)[0] == 200
            return False

        until(ready)

    def text(self, body: str, theirs: str = "+15005550123", **more: Any) -> dict[str, Any]:
        """Send a text from a phone; returns what the sandbox says of its callback."""
        return dict(
            fetch(f"{self.sandbox}/sandbox/texts", {"from": theirs, "body": body, **more})[1]
        )

    def signed(self, sid: str, body: str) -> tuple[dict[str, str], str]:
        """A callback as Twilio sends it, for a text that no sandbox knows: headers and form."""
        params = {
            "AccountSid": self.settings["TWILIO_ACCOUNT_SID"],
            "ApiVersion": "2010-04-01",
            "Body": body,
            "From": "+15005550123",
            "To": OUR_NUMBER,
            "MessageSid": sid,
            "SmsSid": sid,
            "SmsMessageSid": sid,
            "NumMedia": "0",
            "NumSegments": "1",
            "SmsStatus": "received",
        }
        signature = RequestValidator(self.auth_token).compute_signature(
            f"{self.public}/callbacks/twilio", params
        )
        form = "application/x-www-form-urlencoded"
        return {"Content-Type": form, "X-Twilio-Signature": signature}, urlencode(params)

    def post(self, headers: dict[str, str], body: str) -> int:
        """POST a callback; returns the status."""
        url = f"{self.public}/callbacks/twilio"
        return httpx.post(url, content=body, headers=headers, timeout=20).status_code

    def replies(self) -> list[dict[str, Any]]:
        """Every reply the sandbox was sent, in order of arrival."""
        return list(fetch(f"{self.sandbox}/sandbox/records")[1]["replies"])

    def bodies(self) -> list[str]:
        """What the replies say."""
        return [reply["body"] for reply in self.replies()]

    def trouble(self, **switches: Any) -> None:
        """Make the connector misbehave; see `service.lab.sandbox.records.Trouble`."""
        assert fetch(f"{self.sandbox}/sandbox/trouble", switches)[0] == 200

    def log(self) -> str:
        """All that the processes have written so far."""
        return self.log_path.read_text(errors="replace")

    def close(self) -> None:
        """End every process."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for each in (self.public_listener, self.internal_listener, self.sandbox_listener):
            each.close()

    def _sandbox_up(self) -> bool:
        with contextlib.suppress(OSError):
            return fetch(f"{self.sandbox}/sandbox/records", timeout_s=5)[0] == 200
        return False


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment with its sandbox running and nothing else yet."""
    made = Deployment(tmp_path)
    try:
        made.start_sandbox()
        yield made
    finally:
        made.close()


@pytest.fixture
def open_page() -> Iterator[OpenPage]:
    """Open a page of headless Chromium in a browser window of its own; options: the window's.

    tells: what the browser may report besides, as an outage that is part of the test.
    """
    chromium = program("chromium", "chromium-browser", package="chromium")
    problems: list[str] = []
    # Pages that say what is wrong have such a status, and the browser tells of it.
    expected = ["the server responded with a status of 40"]

    def tell(line: ConsoleMessage) -> None:
        if line.type == "error" and not any(each in line.text for each in expected):
            problems.append(line.text)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        def start(tells: tuple[str, ...] = (), **options: Any) -> Page:
            expected.extend(tells)
            usual: dict[str, Any] = {
                "viewport": {"width": 1440, "height": 900},
                "reduced_motion": "reduce",
            }
            page = browser.new_context(**(usual | options)).new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", tell)
            return page

        yield start
        browser.close()
    assert problems == [], "the page reported errors"
