"""`parley demo`: the whole loop on one machine, with real servers and throw-away credentials.

Starts the sandbox and `parley serve` (with a Redis of its own) as separate processes, sends a few
texts from a phone, and prints what came back. Speaks to both over HTTP alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.core.plain_text import escape
from service.errors import ParleyError
from service.host.listeners import listen

OUR_NUMBER = "+15005550100"
PHONE = "+15005550123"
READY_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 15.0
ASK_TIMEOUT_S = 2.0
POLL_S = 0.02

SCRIPT: tuple[tuple[str, str], ...] = (
    ("Hello!", "Hi"),
    ("echo good morning", "good morning"),
    ("Where is order A-1001?", "A-1001"),
    ("What can you do?", "HELLO"),
)
"""What the phone texts, and what the reply has to contain; answered by config/handlers.py."""


class DemoFailed(ParleyError):
    """The demo could not be shown; the text says at which point and what to look at."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the demo's servers listen, as http:// addresses without a trailing slash."""

    sandbox: str
    public: str
    internal: str


class Demo:
    """The running demo. A context manager: everything it started ends with it.

    handlers: a handlers file to run instead of the example, None for the example.
    settings: of the service, by name, over the demo's own.
    log: file for what the servers log, None for the terminal.
    """

    def __init__(
        self,
        handlers: Path | None,
        console: Console,
        settings: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self._handlers = handlers
        self._log = log
        self._given = settings or {}
        self._console = console
        self._folder = Path(tempfile.mkdtemp(prefix="parley-demo-"))
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._listeners = [listen("127.0.0.1", 0, "PORT") for _ in range(3)]
        urls = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in self._listeners]
        self.addresses = Addresses(*urls)
        self.account_sid = "AC" + secrets.token_hex(16)
        self.auth_token = secrets.token_hex(16)

    @property
    def pids(self) -> dict[str, int]:
        """The processes it started: "sandbox" and "service"; what these started is not in it."""
        return {name: child.pid for name, child in self._children}

    @property
    def redis_socket(self) -> Path:
        """Where the service's own Redis listens."""
        return self._folder / "data" / "redis.sock"

    def __enter__(self) -> Self:
        """Start the servers and wait until texts can be answered."""
        try:
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the servers, the service first so that its last replies still arrive."""
        for _, child in reversed(self._children):
            child.terminate()
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
        self._children.clear()
        for listener in self._listeners:
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def play(self) -> bool:
        """Run the scripted exchange and print it; True when every reply was as expected."""
        good = True
        for text, expected in SCRIPT:
            sent = self._post("/sandbox/texts", {"from": PHONE, "body": text})
            self._console.print(_bubble("→", PHONE, text, ""))
            if sent["status"] != 200:
                self._console.print(f"  the callback was answered {sent['status']}", style="red")
                good = False
                continue
            reply = self._wait_for_reply(sent["sid"])
            if reply is None:
                waited = f"  no reply within {REPLY_TIMEOUT_S:.0f} s"
                self._console.print(waited, style="red")
                good = False
                continue
            took = f"{reply['after_ms']:.0f} ms"
            self._console.print(_bubble("←", OUR_NUMBER, reply["body"], took))
            if expected not in reply["body"]:
                self._console.print(f"  expected it to contain {expected!r}", style="red")
                good = False
        return good & self._confirm_tokens()

    def wait(self) -> None:
        """Run until Ctrl+C, SIGTERM, or until one of the servers ends by itself."""
        while True:
            self._check_alive()
            time.sleep(0.2)

    def _confirm_tokens(self) -> bool:
        records = self._get("/sandbox/records")
        replies = records["replies"]
        right = [reply for reply in replies if reply["token_ok"]]
        good = bool(replies) and len(right) == len(replies) and not records["refusals"]
        self._console.print()
        self._console.print(
            f"The sandbox confirms: {len(right)} of {len(replies)} replies carried the instance "
            "token that POST /instances returned.",
            style="green" if good else "red",
        )
        return good

    def _start(self) -> None:
        sandbox, public, internal = self._listeners
        account = {
            "OPEN_CONNECTORS_USER_SECRET": secrets.token_urlsafe(24),
            "OPEN_CONNECTORS_ORGANIZATION_SECRET": secrets.token_urlsafe(24),
        }
        self._spawn("sandbox", ["sandbox", "--fd", str(sandbox.fileno())], [sandbox], account)
        settings = {
            **account,
            "PUBLIC_URL": self.addresses.public,
            "OPEN_CONNECTORS_BASE_URL": f"{self.addresses.sandbox}/elements/api-v2",
            "TWILIO_ACCOUNT_SID": self.account_sid,
            "TWILIO_AUTH_TOKEN": self.auth_token,
            "TWILIO_SENDER": OUR_NUMBER,
            "SECRET_KEY": secrets.token_hex(32),
            "DATA_DIR": str(self._folder / "data"),
            "LOG_FORMAT": "console",
            "LOG_LEVEL": "warning",
            **self._given,
        }
        if self._handlers is not None:
            settings["HANDLERS"] = str(self._handlers.absolute())
        arguments = ["serve", "--fd", str(public.fileno()), "--internal-fd", str(internal.fileno())]
        self._spawn("service", arguments, [public, internal], settings)

    def _spawn(
        self,
        name: str,
        arguments: list[str],
        listeners: list[socket.socket],
        settings: dict[str, str],
    ) -> None:
        # The user's own settings stay out: a demo never touches a real account or Redis.
        passed = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
        environ = {key: os.environ[key] for key in passed if key in os.environ}
        with contextlib.ExitStack() as stack:
            log = None if self._log is None else stack.enter_context(self._log.open("ab"))
            child = subprocess.Popen(
                [sys.executable, "-m", "service", *arguments, "--stop-with-stdin"],
                env=environ | settings,
                stdin=subprocess.PIPE,
                stderr=log,
                pass_fds=[listener.fileno() for listener in listeners],
                # Ctrl+C reaches the demo alone, which stops its servers in order.
                start_new_session=True,
            )
        self._children.append((name, child))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        state: dict[str, Any] = {}
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                # A service that has just ended leaves a listener behind that nobody answers at.
                status, state = _fetch(f"{self.addresses.internal}/readyz", timeout_s=ASK_TIMEOUT_S)
            except OSError:
                status = 0
            if status == 200:
                return
            time.sleep(POLL_S)
        raise DemoFailed(f"the service was not ready within {READY_TIMEOUT_S:.0f} s: {state}")

    def _check_alive(self) -> None:
        for name, child in self._children:
            if child.poll() is not None:
                told = self._log.read_text(errors="replace") if self._log else "see above"
                raise DemoFailed(f"the {name} ended with status {child.returncode}; {told}")

    def _wait_for_reply(self, sid: str) -> dict[str, Any] | None:
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while time.monotonic() < deadline:
            self._check_alive()
            for thread in self._get("/sandbox/threads")["threads"]:
                messages = thread["messages"]
                for place, message in enumerate(messages):
                    if message["sid"] == sid and len(messages) > place + 1:
                        return dict(messages[place + 1])
            time.sleep(POLL_S)
        return None

    def _get(self, path: str) -> dict[str, Any]:
        return _fetch(self.addresses.sandbox + path)[1]

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _fetch(self.addresses.sandbox + path, body)[1]


def play_demo(*, once: bool, handlers: Path | None) -> int:
    """Run the demo on the terminal.

    once: end after the transcript instead of running on. handlers: run these, without a script.
    Returns the exit status: 0, or 1 when an expected reply was missing. Raises DemoFailed.
    """
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, _interrupt)
    console.print("Starting a sandbox, a Redis and Parley itself ...", style="dim")
    try:
        with Demo(handlers, console) as demo:
            good = True
            if handlers is None:
                console.print()
                good = demo.play()
            if once:
                return 0 if good else 1
            console.print()
            console.print(Text.assemble("Text it yourself: ", (demo.addresses.sandbox, "bold")))
            console.print("Ctrl+C stops the demo and leaves nothing behind.", style="dim")
            demo.wait()
    except KeyboardInterrupt:
        console.print("Stopped.", style="dim")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _bubble(arrow: str, number: str, text: str, took: str) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=len(number) + 2, justify="right", style="dim")
    row.add_column(width=1, style="bold cyan" if arrow == "→" else "bold green")
    row.add_column(width=8, justify="right", style="dim")
    row.add_column(overflow="fold")
    row.add_row(number, arrow, took, Text(escape(text)))
    return row


def _fetch(
    url: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = REPLY_TIMEOUT_S
) -> tuple[int, dict[str, Any]]:
    """GET, or POST a JSON body; returns the status and the JSON answer, also of an error."""
    request = urllib.request.Request(  # noqa: S310  (loopback addresses made above)
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
