"""`parley demo`: the whole loop on one machine, with real servers and throw-away credentials.

Starts the sandbox and `parley serve` (with a Redis of its own) as separate processes, sends a few
texts from a phone, and prints what came back. Speaks to both over HTTP alone; what the handlers'
routes take, `parley routes` says, which loads them in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.core.plain_text import escape
from service.errors import ParleyError, SettingsError
from service.host.listeners import listen

OUR_NUMBER = "+15005550100"
PHONE = "+15005550123"
READY_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 15.0
ASK_TIMEOUT_S = 2.0
POLL_S = 0.02
COMMAND_TIMEOUT_S = 15.0

NOT_READY = 503
"""What /readyz answers while the service is there and nothing is set up."""

SUGGESTIONS = 20
"""Most texts, and most further routes, that the phone page is told of: as many as it takes."""

OF_THE_DEMO = frozenset(
    {
        *("PUBLIC_URL", "HOST", "PORT", "INTERNAL_HOST", "INTERNAL_PORT", "INTERNAL_HOSTS"),
        *("REDIS_URL", "DATA_DIR", "DURABILITY", "REPLICAS", "REPLICA_TIMEOUT_S", "SECRET_KEY"),
        *("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_AUTH_TOKEN_SECONDARY"),
        *("TWILIO_SHARED_KEYS", "TWILIO_SENDER", "EVENT_SIGNATURE_KEY"),
        *("OPEN_CONNECTORS_BASE_URL", "OPEN_CONNECTORS_USER_SECRET"),
        "OPEN_CONNECTORS_ORGANIZATION_SECRET",
        *("CONNECTOR_CA_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"),
    }
)
"""Settings that the demo makes up, or that go with a Redis or an account which is not its own:
those of the user stay out, so that a demo never touches anything real."""

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
    settings: of the service, by name, over the demo's own. environ: what else the service's
        environment holds, for handlers that read it.
    log: file for what the servers log, None for the terminal.
    connect: start the service with nothing set up; `to_type` is what its Connect page asks for.
    port: of the phone page, the service's follow; 0 for free ones. Those that are taken are
        replaced by free ones, with a word. must: the phone's port has to be that one.
    Raises SettingsError when it has to and is taken.
    """

    def __init__(
        self,
        handlers: Path | None,
        console: Console,
        settings: Mapping[str, str] | None = None,
        log: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        connect: bool = False,
        port: int = 0,
        must: bool = False,
    ) -> None:
        self._connect = connect
        self.to_type: dict[str, str] = {}
        self._handlers = handlers
        self._log = log
        self._given = dict(settings or {})
        self._environ = dict(environ or {})
        self._console = console
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._settings: dict[str, str] = {}
        self._broken = False
        self._listeners = [self._listen(port, "phone page", must=must)]
        for place, name in enumerate(("service", "service's internal side"), start=1):
            self._listeners.append(self._listen(port and port + place, name))
        self._folder = Path(tempfile.mkdtemp(prefix="parley-demo-"))
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

    @property
    def settings_file(self) -> Path:
        """What `parley` commands need to find this demo, as a shell reads it."""
        return self._folder / "settings"

    def __enter__(self) -> Self:
        """Start the servers and wait until texts can be answered, or the console be opened."""
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
            _stop(child)
        self._children.clear()
        for listener in self._listeners:
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def play(self) -> bool:
        """Run the scripted exchange and print it; True when every reply was as expected."""
        good = True
        self._console.print(
            "→ a phone texts Parley; ← Parley's reply, and the time from text sent to reply there.",
            style="dim",
        )
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

    def introduce(self) -> None:
        """Tell the phone page what texts the service takes, and how often it looks after itself."""
        texts, also = [text for text, _ in SCRIPT], list[str]()
        if self._handlers is not None or "HANDLERS" in self._given:
            texts, also = _suggest(self._routes())
        told: dict[str, Any] = {"texts": texts, "also": also}
        with contextlib.suppress(KeyError, ValueError):
            told["looks_every_s"] = float(self._given["CONNECTOR_WATCH_S"])
        self._post("/sandbox/service", told)

    def wait(self, *, reload: bool = False) -> None:
        """Run until Ctrl+C, SIGTERM, or until one of the servers ends by itself.

        reload: start the service anew whenever the handlers file, or one beside it, has changed.
        """
        known = self._stamps() if reload else None
        while True:
            self._check_alive()
            time.sleep(0.2)
            if known is not None and (now := self._stamps()) != known:
                known = now
                self._start_service_anew()

    def _stamps(self) -> dict[str, tuple[int, int]]:
        """When each Python file beside the handlers was changed: a file may import neighbours."""
        found: dict[str, tuple[int, int]] = {}
        if self._handlers is not None:
            for path in self._handlers.absolute().parent.glob("*.py"):
                with contextlib.suppress(OSError):  # gone since, as editors do while they save
                    status = path.stat()
                    found[path.name] = status.st_mtime_ns, status.st_size
        return found

    def _start_service_anew(self) -> None:
        began = time.monotonic()
        self._console.print("The handlers have changed: the service starts anew ...", style="dim")
        _stop(self._children.pop()[1])
        self._broken = False
        self._start_service()
        try:
            self._wait_until_ready()
        except DemoFailed:
            self._broken = True
            self._console.print(
                "It does not start with them (see above). Mend the file and save it.", style="red"
            )
            return
        self.introduce()
        took = f"Ready after {time.monotonic() - began:.1f} s; the conversations go on."
        self._console.print(took, style="dim")

    def console_address(self) -> str:
        """Return a one-time address of the console. Raises DemoFailed."""
        try:
            return str(self._ask("console", "--json")["address"])
        except (subprocess.SubprocessError, ValueError) as error:
            raise DemoFailed("`parley console` made no address of the console") from error

    def _routes(self) -> list[dict[str, Any]]:
        """Ask `parley routes`; none where it can't say."""
        try:
            return list(self._ask("routes", "--json"))
        except (subprocess.SubprocessError, ValueError):
            return []

    def _ask(self, *arguments: str) -> Any:
        """Run a command beside the service, in a process of its own; returns the JSON it prints."""
        ran = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env=self._environment() | self._environ | self._settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        )
        return json.loads(ran.stdout)

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
        sandbox = self._listeners[0]
        account = {
            "OPEN_CONNECTORS_USER_SECRET": secrets.token_urlsafe(24),
            "OPEN_CONNECTORS_ORGANIZATION_SECRET": secrets.token_urlsafe(24),
        }
        arguments = ["sandbox", "--fd", str(sandbox.fileno())]
        self._spawn("sandbox", arguments, [sandbox], self._environment() | account)
        credentials = {
            "OPEN_CONNECTORS_BASE_URL": f"{self.addresses.sandbox}/elements/api-v2",
            **account,
            "TWILIO_ACCOUNT_SID": self.account_sid,
            "TWILIO_AUTH_TOKEN": self.auth_token,
            "TWILIO_SENDER": OUR_NUMBER,
        }
        self.to_type = credentials if self._connect else {}
        self._settings = {
            **({} if self._connect else credentials),
            "PUBLIC_URL": self.addresses.public,
            "NO_PROXY": "*",  # The sandbox is on this machine.
            "SECRET_KEY": secrets.token_hex(32),
            "DATA_DIR": str(self._folder / "data"),
            "INTERNAL_PORT": self.addresses.internal.rpartition(":")[2],
            "LOG_FORMAT": "console",
            "LOG_LEVEL": "warning",
            **self._given,
        }
        if self._handlers is not None:
            self._settings["HANDLERS"] = str(self._handlers.absolute())
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in self._settings.items())
        # The folder is its owner's alone.
        self.settings_file.write_text("".join(lines), encoding="utf-8")
        self._start_service()

    def _start_service(self) -> None:
        _, public, internal = self._listeners
        arguments = ["serve", "--fd", str(public.fileno()), "--internal-fd", str(internal.fileno())]
        environ = self._environment() | self._environ | self._settings
        self._spawn("service", arguments, [public, internal], environ)

    def _listen(self, port: int, name: str, *, must: bool = False) -> socket.socket:
        try:
            return listen("127.0.0.1", port, "--port")
        except SettingsError:
            if must or not port:
                raise
        listener = listen("127.0.0.1", 0, "--port")
        number = listener.getsockname()[1]
        self._console.print(f"Port {port} is taken: the {name} is at {number} instead.")
        return listener

    @staticmethod
    def _environment() -> dict[str, str]:
        """What every process needs. The user's own settings stay out but for those given."""
        passed = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
        return {key: os.environ[key] for key in passed if key in os.environ}

    def _spawn(
        self,
        name: str,
        arguments: list[str],
        listeners: list[socket.socket],
        environ: dict[str, str],
    ) -> None:
        with contextlib.ExitStack() as stack:
            log = None if self._log is None else stack.enter_context(self._log.open("ab"))
            child = subprocess.Popen(
                [sys.executable, "-m", "service", *arguments, "--stop-with-stdin"],
                env=environ,
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
            if status == 200 or (self._connect and status == NOT_READY):
                return
            time.sleep(POLL_S)
        raise DemoFailed(f"the service was not ready within {READY_TIMEOUT_S:.0f} s: {state}")

    def _check_alive(self) -> None:
        for name, child in self._children:
            # Handlers that don't load end the service; it is started again once they are mended.
            if child.poll() is not None and not (name == "service" and self._broken):
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


def _suggest(routes: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return texts that routes take as they are, and in words what the others take."""
    texts, also = [], []
    for route in routes:
        match route["kind"], route["takes"]:
            case "keyword", [word, *_]:
                texts.append(str(word))
            case "pattern", [expression]:
                also.append(f"what the pattern {expression} finds"[:200])
            case "to", [number]:
                also.append(f"anything sent to {number}")
            case _:
                also.append("anything else")
    return texts[:SUGGESTIONS], also[:SUGGESTIONS]


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _bubble(arrow: str, number: str, text: str, took: str) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=8, justify="right")
    row.add_column(style="dim")
    row.add_column(width=1, style="bold cyan" if arrow == "→" else "bold green")
    row.add_column(width=8, justify="right", style="dim")
    row.add_column(overflow="fold")
    row.add_row("phone" if arrow == "→" else "Parley", number, arrow, took, Text(escape(text)))
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
