"""Secrets, sought in every byte that a deployment leaves behind after failures of every kind.

A real service, secrets given by files, against a connector that answers everything wrongly and
quotes what it was sent. What is sought is the middle of each secret, however it was quoted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import psutil
import pytest
import redis
from twilio.request_validator import RequestValidator

from tests.flow.conftest import Deployment, until
from tests.present import as_a, present
from tests.redis_servers import single

PATH = "/elements/api-v2"
TEXT = "heron-4711"
"""What a text says that is answered."""

FAILING = "egret-4712"
"""What a text says that a handler fails at, quoting it. It may stand in Redis, and nowhere else."""

HANDLERS = """
from service import Router
router = Router()

@router.keyword("FAIL")
async def fail(message):
    raise ValueError(f"no {message.body} {message.raw}")

@router.default
async def echo(message):
    if "fail" in message.body:
        raise ValueError(f"no {message.body} {message.raw}")
    return f"you said {message.body}"
"""

Wrong = Callable[["Connector", str], None]


def said(status: int, value: Any, **headers: str) -> Wrong:
    """Answer with JSON; `$` in it and in the headers becomes the Authorization header."""

    def answer(request: Connector, authorization: str) -> None:
        quoted = json.dumps(authorization)[1:-1]
        body = (value if isinstance(value, str) else json.dumps(value)).replace("$", quoted)
        filled = {n.replace("_", "-"): v.replace("$", authorization) for n, v in headers.items()}
        request.answer(status, body.encode(), {"Content-Type": "application/json"} | filled)

    return answer


def raw(request: Connector, authorization: str) -> None:
    """Answer with something that is no HTTP."""
    request.wfile.write(f"HTTP/1.1 {authorization}\r\n{authorization}\r\n\r\n".encode())
    request.close_connection = True


def body_of_ours(request: Connector, authorization: str) -> None:
    """Answer with the request's own body, the secrets of POST /instances in it."""
    quoted = {"message": request.sent.decode(), "providerMessage": json.loads(request.sent or "0")}
    request.answer(400, json.dumps(quoted).encode(), {})


WRONG: dict[str, Wrong] = {
    "refused": said(401, {"message": "$", "providerMessage": "$", "requestId": "$"}),
    "refused, nested": said(
        403, {"message": {"error": ["$"]}, "providerMessage": [{"m": "$"}], "requestId": ["$"]}
    ),
    "an id in a header": said(500, "no JSON $", elements_request_id="$"),
    "a page": said(200, "<html>$</html>", Content_Type="text/html; of=$"),
    "a type": said(502, "$", Content_Type="application/$"),
    "a text": said(200, '"$"'),
    "a list": said(200, ["$"]),
    "a list of objects": said(200, [{"message": "$", "error": {"$": "$"}}]),
    "an object": said(200, {"message": "$", "$": "$"}),
    "an id": said(200, {"id": "$", "sid": "$", "token": "token", "name": "$", "tags": ["$"]}),
    "a name": said(
        200,
        {
            "id": 7,
            "token": "token",
            "name": "$",
            "tags": ["parley", "$"],
            "element": {"key": "$"},
            "configuration": {"$": "$", "messaging.sms.twilio.callback.url": "$"},
        },
    ),
    "a redirection": said(302, "", Location="https://$"),
    "a pause": said(429, {"message": "$"}, Retry_After="$"),
    "no HTTP": raw,
    "our own body": body_of_ours,
    "nothing": lambda request, _: setattr(request, "close_connection", True),
}


class Connector(BaseHTTPRequestHandler):
    """A connector that is wrong in every way in turn, or right."""

    protocol_version = "HTTP/1.1"
    wrong: frozenset[str] = frozenset({"GET", "POST", "PUT", "DELETE"})
    token = ""
    served: set[str]
    turns: dict[str, Iterator[str]]
    kept: dict[str, str]
    sent = b""

    def respond(self) -> None:
        """Answer rightly, or with the next mistake."""
        length = int(self.headers.get("Content-Length") or 0)
        self.sent = self.rfile.read(length)
        if self.command in self.wrong:
            name = next(self.turns[self.command])
            self.served.add(f"{self.command} {name}")
            WRONG[name](self, self.headers.get("Authorization", ""))
            return
        if b'"configuration"' in self.sent:
            self.kept.update(json.loads(self.sent)["configuration"])
        # It masks nothing.
        instance = {"id": 7, "token": self.token, "name": "Parley", "tags": ["parley"]}
        instance |= {"configuration": self.kept, "element": {"key": "twilio"}}
        answer: Any = instance
        if self.path.partition("?")[0].endswith("/messages"):
            answer = {"sid": secrets.token_hex(16)} if self.command == "POST" else []
        elif "?" in self.path:
            answer = []
        self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815  (the library's names)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send an answer whole."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def connector() -> Iterator[type[Connector]]:
    """Run the connector; its `address` is set."""
    turns = {method: itertools.cycle(WRONG) for method in ("GET", "POST", "PUT", "DELETE")}
    kept = {"served": set(), "turns": turns, "token": _secret(), "kept": {}}
    handler = type("RunningConnector", (Connector,), kept)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}{PATH}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def _secret() -> str:
    """Make a secret with what is escaped, cut or decoded on the way: by JSON, in a URL."""
    return f'a"{secrets.token_hex(20)}\\/b%41'


def middle(secret: str) -> bytes:
    """Return the part of a secret that is sought."""
    return max(secret.replace("\\", '"').split('"'), key=len).encode()[:24]


class Guarded(Deployment):
    """A deployment whose secrets are in files, and known here."""

    def __init__(self, folder: Path, connector: type[Connector], place: str, password: str) -> None:
        super().__init__(folder)
        handlers = folder / "failing_handlers.py"
        handlers.write_text(HANDLERS)
        plain = {
            "TWILIO_AUTH_TOKEN": _secret(),
            "TWILIO_AUTH_TOKEN_SECONDARY": _secret(),
            "TWILIO_SHARED_KEYS": f"SK1:{_secret()}",
            "EVENT_SIGNATURE_KEY": _secret(),
            "OPEN_CONNECTORS_USER_SECRET": _secret(),
            "OPEN_CONNECTORS_ORGANIZATION_SECRET": _secret(),
            "SECRET_KEY": f"{_secret()},{_secret()}",
        }
        if place:
            plain["REDIS_URL"] = f"redis://:{quote(password, safe='')}@{place}"
        self.auth_token = plain["TWILIO_AUTH_TOKEN"]
        self.secrets = {name: value.split(",") for name, value in plain.items()}
        self.secrets |= {"REDIS_URL": [password], "the instance token": [connector.token]}
        for name, value in plain.items():
            self.settings.pop(name, None)
            path = folder / name
            path.write_text(value)
            self.settings[f"{name}_FILE"] = str(path)
        self.plain = plain
        self.secret_files = {folder / name for name in plain}
        self.settings |= {
            "OPEN_CONNECTORS_BASE_URL": connector.address,  # type: ignore[attr-defined]
            "HANDLERS": str(handlers),
            "HANDLER_ATTEMPTS": "2",
            "SEND_ATTEMPTS": "40",
            "SEND_TIMEOUT_S": "1",
            "RETRY_FIRST_S": "0.05",
            "RETRY_MAX_S": "0.2",
            "CONNECTOR_WATCH_S": "0.2",
            "BACKFILL_EVERY_S": "0.3",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "console",
            "IN_DOUBT": "resend",
        }
        self.seen: dict[str, bytes] = {}

    def call(self, body: str, *, token: str | None = None) -> int:
        """Send a callback as Twilio does, or signed with another token; returns its status."""
        sid = f"SM{secrets.token_hex(16)}"
        fields = {"MessageSid": sid, "From": "+15005550123", "To": "+15005550100", "Body": body}
        fields |= {"AccountSid": self.settings["TWILIO_ACCOUNT_SID"], "NumMedia": "0"}
        url = f"{self.public}/callbacks/twilio"
        signature = RequestValidator(token or self.auth_token).compute_signature(url, fields)
        headers = {"X-Twilio-Signature": signature}
        headers |= {"Content-Type": "application/x-www-form-urlencoded"}
        with httpx.Client(trust_env=False) as client:
            return client.post(url, content=urlencode(fields), headers=headers).status_code

    def parley(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command; what it prints is kept to be searched."""
        before = self.log_path
        self.log_path = self.folder / f"command-{len(self.seen)}.log"
        process = self.spawn(*arguments, pass_sockets=(), **settings)
        process.wait(60)
        printed = self.log_path.read_bytes()
        self.seen[f"`parley {' '.join(arguments)}` {settings.keys()} {len(self.seen)}"] = printed
        self.log_path = before
        return subprocess.CompletedProcess(arguments, process.returncode, printed)

    def keep_pages(self) -> None:
        """Keep what the listeners answer."""
        pages = [f"{self.public}/healthz", f"{self.public}/callbacks/twilio", f"{self.public}/x"]
        pages += [f"{self.internal}/{page}" for page in ("readyz", "healthz", "counters", "x")]
        with httpx.Client(trust_env=False, timeout=20) as client:
            for page in pages:
                answer = client.get(page)
                seen = f"{answer.headers} {answer.text}".encode()
                self.seen[page] = self.seen.get(page, b"") + seen

    def keep_processes(self, process: subprocess.Popen[bytes]) -> int:
        """Keep arguments and environments of a process and all below it; returns how many."""
        found = [psutil.Process(process.pid)]
        found += found[0].children(recursive=True)
        for each in found:
            for what in ("cmdline", "environ"):
                seen = Path(f"/proc/{each.pid}/{what}").read_bytes()
                assert seen
                self.seen[f"{what} of {each.pid} ({each.name()})"] = seen
        return len(found)

    def keep_redis(self, client: redis.Redis) -> None:
        """Keep every key and every value."""
        for key in client.scan_iter("*", count=1000):
            kind = as_a(bytes, client.type(key)).decode()
            read: dict[str, Callable[[bytes], Any]] = {
                "string": client.get,
                "hash": client.hgetall,
                "stream": client.xrange,
                "set": client.smembers,
                "zset": lambda k: client.zrange(k, 0, -1, withscores=True),
            }
            self.seen[f"Redis: {key!r}"] = key + _flat(read[kind](key))

    def keep_files(self, *folders: Path) -> None:
        """Keep the bytes of every file, the secret files aside."""
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file() and path not in self.secret_files:
                    self.seen[str(path)] = path.read_bytes()

    def leaks(self) -> list[str]:
        """Name every place where a secret is, and which."""
        found = []
        for place, content in self.seen.items():
            for name, values in self.secrets.items():
                found += [f"{name} in {place}" for value in values if middle(value) in content]
        return found


def _flat(value: Any) -> bytes:
    """Join whatever bytes a value of Redis holds."""
    if isinstance(value, bytes):
        return value + b"\n"
    if isinstance(value, dict):
        value = value.items()
    if isinstance(value, list | tuple | set) or hasattr(value, "__iter__"):
        return b"".join(map(_flat, value))
    return str(value).encode()


def left(connector: type[Connector], method: str) -> set[str]:
    """Name the mistakes the connector has still to make with a method."""
    return {name for name in WRONG if f"{method} {name}" not in connector.served}


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(True, id="a Redis of its own"),
        pytest.param(False, id="a Redis with a password"),
    ],
)
@pytest.mark.long
@pytest.mark.timeout(400)
def test_no_secret_is_left_anywhere(tmp_path: Path, connector: type[Connector], own: bool) -> None:
    """Whoever reads logs, backups of Redis or a list of processes could send and read texts."""
    with contextlib.ExitStack() as stack:
        password, server, place = _secret(), None, ""
        if not own:
            server = stack.enter_context(single())
            server.client.config_set("requirepass", password)
            server.command += ["--requirepass", password]
            place = f"127.0.0.1:{server.port}/0"
            client = redis.Redis(port=server.port, password=password)
        else:
            client = redis.Redis(unix_socket_path=str(tmp_path / "data" / "redis.sock"))
        stack.enter_context(client)
        deployment = Guarded(tmp_path, connector, place, password)
        stack.callback(deployment.close)
        service = deployment.serve("--processes", "2", ready=False)
        # Instances can't be had, in every way there is.
        until(lambda: "not provisioned" in deployment.log(), within_s=30)
        for _ in WRONG:
            deployment.parley("connector", "plan")
            deployment.keep_pages()
        assert not left(connector, "GET")
        assert deployment.keep_processes(service) == (4 if own else 3)
        # Callbacks are taken meanwhile, forged ones are not, and handlers fail.
        assert deployment.call(TEXT) == 200
        assert deployment.call(f"{FAILING} fail") == 200
        assert deployment.call("FAIL") == 200
        assert deployment.call(TEXT, token="another") == 403
        for arguments in (("connector", "plan"), ("connector", "apply"), ("connector", "show")):
            deployment.parley(*arguments)
        # There is an instance, and then nothing works again.
        connector.wrong = frozenset()
        deployment.parley("connector", "apply")
        service.terminate()
        assert service.wait(20) == 0
        service = deployment.serve("--processes", "2")
        deployment.parley("connector", "show")
        deployment.parley("connector", "plan", "--json")
        connector.wrong = frozenset({"POST"})
        for number in range(40):
            assert deployment.call(f"{TEXT} {number}") == 200
        until(lambda: not left(connector, "POST"), within_s=60)
        deployment.keep_pages()
        connector.served.clear()
        for _ in WRONG:
            deployment.parley("connector", "rotate", "--yes")
        assert not left(connector, "POST")
        connector.wrong = Connector.wrong
        deployment.parley("connector", "plan")
        deployment.parley("connector", "check")
        deployment.parley("backfill", "--since", "1h")
        deployment.parley("connector", "rotate", "--yes")
        deployment.parley("dead", "list")
        deployment.parley("settings")
        deployment.parley("settings", "--json")
        for name, value in deployment.plain.items():
            path = tmp_path / f"malformed_{name}"
            deployment.secret_files.add(path)
            for wrong in (f"{value} é,{value}", f"{value}\n/@x?{value}#"):
                path.write_text(wrong)
                deployment.parley("settings", **{f"{name}_FILE": str(path)})
        # Redis goes away, and comes back.
        if server is not None:
            server.kill()
            until(lambda: deployment.call(TEXT) == 503)
            deployment.keep_pages()
            deployment.parley("dead", "list")
            server.start_again()
            until(lambda: deployment.call(TEXT) == 200, within_s=30)
        deployment.keep_redis(client)
        assert deployment.keep_processes(service) >= 3
        folders = [tmp_path]
        if server is not None:
            folders.append(Path(present(client.config_get("dir")["dir"])))
        deployment.keep_files(*folders)
        service.terminate()
        assert service.wait(20) == 0
        deployment.keep_files(tmp_path)
    assert deployment.leaks() == []
    assert_searched(deployment)


def assert_searched(deployment: Guarded) -> None:
    """Check that the search had something to find, and that texts are in Redis alone."""
    holding = [place for place, content in deployment.seen.items() if FAILING.encode() in content]
    log = deployment.log()
    assert "********" in log
    assert "Authorization" not in log
    assert any(place.startswith("Redis: ") for place in holding)
    assert any(".aof" in place for place in holding)
    assert any("instance}:record" in place for place in deployment.seen)
    # `parley dead list` shows it, as it should, and is kept in a file of its own here.
    kept = (".aof", "Redis: ", "`parley dead list`", "command-")
    assert [place for place in holding if not any(each in place for each in kept)] == []
    assert os.environ.get("PATH", "").encode() in b"".join(deployment.seen.values())
