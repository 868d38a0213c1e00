"""What commands print of a stranger's words: run for real, over a Redis and a connector of such."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import typer

from service.cli.app import app
from service.core import entries
from service.core.sealing import Sealer
from service.model import Conversation, MessageSid, Outbound, Partition, Reply
from service.store.keys import INSTANCE, PARTITION_COUNT, PartitionKeys
from tests.store.pieces import message

ROOT = Path(__file__).parents[2]
SECRET_KEY = "k" * 32
ESC = "\x1b"
HOSTILE = (
    f"[/x] [red] {ESC}[2J{ESC}]0;owned\x07 \x9b31m \u202egpj.exe\u2066 \u200b\u2028\r\n"
    "forged: all is well\n\U000e0041\x7f"
)
"""Markup, escape sequences, a window title, letters turned round, hidden ones, forged lines."""

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class _Connector(BaseHTTPRequestHandler):
    """Answers every request with hostile words; with an error when `failing`."""

    failing = False
    address: str

    def do_GET(self) -> None:
        """Answer with an instance, its description, or a list."""
        instance = {
            "id": HOSTILE,
            "name": HOSTILE,
            "token": "token",
            "tags": ["parley", HOSTILE],
            "disabled": True,
            "element": {"key": "twilio"},
            "configuration": {HOSTILE: HOSTILE, "messaging.sms.twilio.callback.url": HOSTILE},
        }
        body = {"type": "object", "required": [HOSTILE], "properties": {HOSTILE: {}, "from": {}}}
        parameters = [{"in": "body", "name": "body", "schema": body}]
        operation = {"parameters": parameters, "summary": HOSTILE, "responses": {HOSTILE: {}}}
        docs = {"swagger": "2.0", "paths": {"/messages": {"post": operation}}}
        mapped = {"fields": [{"path": HOSTILE, "vendorPath": HOSTILE, "type": HOSTILE}]}
        named = {HOSTILE: mapped | {"vendorName": HOSTILE}, "texts": mapped}
        answer: object = docs if self.path.endswith("/docs") else instance
        if self.path.endswith(("/definitions", "/transformations")):
            answer = named
        if "?" in self.path or self.path.endswith("/twilio/instances"):
            answer = [instance]
        if self.failing:
            answer = {"message": HOSTILE, "providerMessage": HOSTILE, "requestId": HOSTILE}
        raw = json.dumps(answer).encode()
        self.send_response(400 if self.failing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


for _method in ("POST", "PUT", "PATCH", "DELETE"):
    setattr(_Connector, f"do_{_method}", _Connector.do_GET)


@pytest.fixture
def connector() -> Iterator[type[_Connector]]:
    """Run a connector that answers with hostile words; its `address` is set."""
    handler: type[_Connector] = type("Connector", (_Connector,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environ(redis_server: str, connector: type[_Connector]) -> dict[str, str]:
    """Settings of a deployment whose Redis is full of hostile words."""
    if redis_server.startswith("redis+cluster://"):
        client: Any = redis.RedisCluster.from_url(
            "redis://" + redis_server.removeprefix("redis+cluster://").partition(",")[0]
        )
    else:
        client = redis.Redis.from_url(redis_server)
    keys = PartitionKeys(Partition(3))
    replied = Outbound(Conversation(HOSTILE, HOSTILE), Reply(HOSTILE), MessageSid(HOSTILE), 0)
    of_message = {"v": b"1", "k": b"m", "d": entries.encode(message(body=HOSTILE, sid=HOSTILE))}
    of_reply = {"v": b"1", "k": b"r", "d": entries.encode(replied)}
    told = {"error": HOSTILE, "tries": "5", "route": HOSTILE, "at": "1700000000000"}
    with client:
        client.set(PARTITION_COUNT, 16)
        client.xadd(keys.dead, of_message | told, "1700000000000-0")
        client.xadd(keys.dead, of_reply | told, "1700000000001-0")
        damaged = {"v": HOSTILE, "error": b"\xff\x1b", "tries": HOSTILE, "at": "9" * 30}
        client.xadd(keys.dead, damaged, "1700000000002-0")
        client.hset(keys.optouts, f"+1 {HOSTILE}", "1700000000000")
        client.hset(keys.optouts, b"\xff\xfe", HOSTILE)
        record = {
            "id": HOSTILE,
            "token": Sealer((SECRET_KEY,)).seal("token"),
            "name": HOSTILE,
            "tags": HOSTILE,
            "callback_url": HOSTILE,
            "fingerprint": "",
        }
        client.hset(INSTANCE, mapping=record)
    return {
        "PUBLIC_URL": "https://sms.example.com",
        "REDIS_URL": redis_server,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "TWILIO_SENDER": "+15005550100",
        "OPEN_CONNECTORS_BASE_URL": f"{connector.address}/elements/api-v2",
        "OPEN_CONNECTORS_USER_SECRET": "user",
        "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization",
        "SECRET_KEY": SECRET_KEY,
        "INTERNAL_PORT": "1",
    }


def parley(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command."""
    usual = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=usual | environ,
        capture_output=True,
        timeout=60,
        check=False,
    )


def assert_harmless(ran: subprocess.CompletedProcess[bytes]) -> str:
    """Check that nothing of it acts on a terminal or pretends to be a line of ours."""
    said = (ran.stdout + ran.stderr).decode()
    assert "Traceback" not in said, said
    assert ran.returncode in {0, 1, 2, 3}, said
    acting = {letter for letter in said if unicodedata.category(letter) in OBEYED} - {"\n"}
    assert not acting, said
    assert not [line for line in said.splitlines() if line.startswith("forged")], said
    return said


COMMANDS: dict[tuple[str, ...], str] = {
    ("dead", "list"): r"[/x] [red] \x1b[2J",
    ("dead", "list", "--json"): r"\u001b[2J",
    ("dead", "show", "3-1700000000000-0"): r"\u202egpj.exe",
    ("dead", "show", "3-1700000000001-0", "--json"): r"\u202egpj.exe",
    ("dead", "show", "3-1700000000002-0"): r"\x1b",
    ("dead", "show", HOSTILE): r"no such dead letter: [/x]",
    ("dead", "replay", HOSTILE): r"[/x] [red] \x1b[2J",
    ("dead", "drop", HOSTILE, "--yes"): r"[/x] [red] \x1b[2J",
    ("optouts",): r"[/x] [red] \x1b[2J",
    ("optouts", "--json"): r"\u001b[2J",
    ("connector", "plan"): r"\x1b[2J",
    ("connector", "plan", "--json"): r"\u001b[2J",
    ("connector", "show"): r"\u202egpj.exe",
    ("connector", "show", "--json"): r"\u202egpj.exe",
    ("connector", "check"): r"\x1b[2J",
    ("connector", "check", "--json"): r"\u001b[2J",
    ("connector", "enable"): r"\x1b[2J",
    ("connector", "disable", "--yes"): r"\x1b[2J",
    ("connector", "apply"): r"\x1b[2J",
    ("connector", "rekey"): r"\x1b[2J",
    ("connector", "rotate", "--yes"): r"\x1b[2J",
    ("connector", "remove", "--yes"): r"\x1b[2J",
    ("connector", "take"): r"\x1b[2J",
    ("connector", "take", "--json"): r"\u001b[2J",
    ("connector", "take", HOSTILE, "--yes"): r"\x1b[2J",
    ("connector", "docs"): r"\x1b[2J",
    ("connector", "docs", "/messages"): r"\u202egpj.exe",
    ("connector", "docs", "--json"): r"\u001b[2J",
    ("connector", "docs", HOSTILE): r"\x1b[2J",
    ("connector", "request", "GET", "/messages", "--query", "a=b"): r"\u202egpj.exe",
    ("connector", "request", "GET", "/messages", "--json"): r"\u202egpj.exe",
    ("connector", "request", "GET", HOSTILE): r"\x1b[2J",
    ("connector", "map", "list"): r"\x1b[2J",
    ("connector", "map", "list", "--json"): r"\u001b[2J",
    ("connector", "map", "show", "texts"): r"\x1b[2J",
    ("connector", "map", "set", "texts", "--yes"): r"\x1b[2J",
    ("connector", "map", "set", HOSTILE, "--yes"): r"\x1b[2J",
    ("connector", "map", "remove", "nothing", "--yes"): r"\x1b[2J",
    ("connector", "formula", "list"): r"\x1b[2J",
    ("connector", "formula", "list", "--json"): r"\u001b[2J",
    ("connector", "formula", "create", HOSTILE): r"\x1b[2J",
    ("connector", "formula", "remove", HOSTILE, "--yes"): r"\x1b[2J",
    ("backfill", "--since", HOSTILE): r"\x1b[2J",
    ("connect", "--file", HOSTILE): r"\x1b[2J",
    ("explain-signature", "--url", f"https://a.example/{HOSTILE}", "--signature", HOSTILE): "ignat",
    ("explain-signature", "--url", HOSTILE, "--body", f"@{HOSTILE}", "--signature", "x"): "--body",
}
"""Commands that print what a stranger wrote, and what has to be readable of it."""

SAYS_NOTHING_FROM_OUTSIDE = {
    "bench",  # figures
    "check",  # settings and routes
    "sandbox",  # addresses of its own
    "connector forget",  # one sentence
    "routes",  # the handlers file's own words
}
OF_THEIR_OWN = {"settings", "ready", "demo", "serve"}
"""Commands with tests of their own below."""

OF_THE_CONSOLE = {"audit", "console password", "console sessions", "console end"}
"""What they print of strangers, `test_console` has tried."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "shown"), COMMANDS.items(), ids=[" ".join(c)[:40] for c in COMMANDS]
)
def test_a_terminal_obeys_no_stranger(
    environ: dict[str, str], arguments: tuple[str, ...], shown: str
) -> None:
    """A text retitles the operator's window, hides what was said, or ends the command."""
    assert shown in assert_harmless(parley(environ, *arguments))


def test_every_command_is_tried_or_prints_only_words_of_ours() -> None:
    """A new command would print a stranger's words as they are, and nobody would know."""

    def names(command: object, prefix: str = "") -> Iterator[str]:
        for name, each in getattr(command, "commands", {}).items():
            inner = list(names(each, f"{prefix}{name} "))
            yield from inner or [f"{prefix}{name}"]

    depths = {"dead": 2, "connector": 2, "connector map": 3, "connector formula": 3}
    tried = {" ".join(c[: depths.get(" ".join(c[:2]), depths.get(c[0], 1))]) for c in COMMANDS}
    assert set(names(typer.main.get_command(app))) == (
        tried | SAYS_NOTHING_FROM_OUTSIDE | OF_THEIR_OWN | OF_THE_CONSOLE
    )


@pytest.mark.parametrize(
    "command",
    [
        "plan",
        "check",
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in ("show", "apply", "enable", "rotate --yes", "docs", "request GET /messages")
        ),
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in ("map list", "map set texts --yes", "formula list")
        ),
    ],
)
def test_a_connectors_error_is_only_read(
    environ: dict[str, str], connector: type[_Connector], command: str
) -> None:
    """What answers at the connector's address is not always the connector."""
    connector.failing = True
    said = assert_harmless(parley(environ, "connector", *command.split()))
    # Shown as an escape, or left out before.
    assert "[2J" in said


def test_a_service_that_answers_with_hostile_words_is_only_read(
    environ: dict[str, str], connector: type[_Connector]
) -> None:
    """Another process may sit at the port that `parley ready` asks."""
    port = connector.address.rpartition(":")[2]
    assert "is no Parley" in assert_harmless(parley(environ | {"INTERNAL_PORT": port}, "ready"))

    def answer(self: BaseHTTPRequestHandler) -> None:
        checks = {HOSTILE: {"ok": False, "detail": HOSTILE}}
        raw = json.dumps({"ready": False, "checks": checks}).encode()
        self.send_response(503)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    connector.do_GET = answer  # type: ignore[method-assign]  # the class is this test's own
    for form in ((), ("--json",)):
        said = assert_harmless(parley(environ | {"INTERNAL_PORT": port}, "ready", *form))
        assert "[2J" in said


def test_settings_are_only_read(environ: dict[str, str], tmp_path: Path) -> None:
    """A settings file copied from elsewhere is a stranger's as well."""
    (tmp_path / "service.toml").write_text(
        f"instance_name = {json.dumps('[/x]' + ESC)}\n" + json.dumps("b[/y]" + ESC) + " = 1\n"
    )
    names = ("INSTANCE_NAME", "TWILIO_SENDER", "HANDLERS", "DURABILITY", "OPT_OUT_WORDS")
    hostile = environ | {"CONFIG_DIR": str(tmp_path)} | dict.fromkeys(names, HOSTILE)
    told = assert_harmless(parley(hostile, "settings")).splitlines()
    for name in names:
        assert [line for line in told if line.strip().startswith(name) and r"\x1b" in line], name
    ran = parley(hostile, "settings", "--json")
    assert_harmless(ran)
    values = {row["name"]: row["value"] for row in json.loads(ran.stdout)}
    assert all(r"\x1b" in ascii(values[name]) for name in names)
    assert ran.stdout.count(rb"\u001b") >= len(names)


def test_an_error_at_the_start_is_only_read(environ: dict[str, str], tmp_path: Path) -> None:
    """A handlers file may quote data it has read."""
    handlers = tmp_path / "handlers.py"
    handlers.write_text(f"raise ValueError({HOSTILE!r})\n")
    said = assert_harmless(parley(environ | {"HANDLERS": str(handlers)}, "serve"))
    assert r"ValueError: [/x] [red] \x1b[2J" in said
    assert "\n    raise ValueError(" in said


def test_the_demo_only_shows_what_handlers_answer() -> None:
    """Handlers that are tried out may repeat what a file or a service told them."""
    code = (
        "import sys; from rich.console import Console; from service.lab.demo import _bubble\n"
        "Console(width=200).print(_bubble('<', '+1', sys.argv[1], '1 ms'))"
    )
    command = [sys.executable, "-c", code, HOSTILE]
    ran = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert r"[/x] [red] \x1b[2J" in assert_harmless(ran)


def test_a_letter_that_the_terminal_can_not_write_ends_no_command(environ: dict[str, str]) -> None:
    """An emoji in a text would hide every dead letter from an operator with an old locale."""
    said = assert_harmless(parley(environ | {"PYTHONIOENCODING": "ascii"}, "dead", "list"))
    assert r"\x1b[2J" in said
