"""Attacks on the sandbox: by a page in the browser, by a callback URL, by who sends without end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.lab.sandbox.answers import BODY_LIMIT_BYTES
from tests.lab.sandbox.pieces import (
    BASE,
    OURS,
    PLATFORM,
    THEIRS,
    Door,
    Sandbox,
    instance,
    running_sandbox,
)

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]

EVERYWHERE = "0.0.0.0"  # noqa: S104  (what must not be listened at)

WRITES = {
    "/sandbox/texts": {"body": "hello"},
    "/sandbox/trouble": {"status": 500, "count": -1},
    "/sandbox/meddle": {"what": "delete"},
    "/sandbox/rotate": {},
    "/sandbox/poll": {},
    "/sandbox/switches": {"secrets_revoked": True},
}


@pytest.fixture
async def public() -> AsyncIterator[Sandbox]:
    """A sandbox that may be reached from, and call, beyond this machine, under one name."""
    async with running_sandbox(public=True, hosts=frozenset({"sandbox.example"})) as running:
        yield running


async def raw(sandbox: Sandbox, request: bytes) -> bytes:
    """Send bytes, and return the answer's first line."""
    address = urlsplit(sandbox.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    return line


async def fingerprint(sandbox: Sandbox) -> Any:
    """What a forged order would change."""
    return await sandbox.records(), (await sandbox.ask("GET", "/sandbox/switches")).json


# --- whose name is asked for ------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/page/page.js",
        "/sandbox/threads",
        "/sandbox/records",
        "/sandbox/events",
        f"{BASE}/instances",
        f"{BASE}/messages",
        "/nothing",
    ],
)
async def test_a_page_that_rebinds_its_name_to_this_machine_reads_nothing(
    sandbox: Sandbox, path: str
) -> None:
    """Any site a developer visits could read every text, under a name of its own."""
    headers = {"Host": f"attacker.example:{urlsplit(sandbox.url).port}"}

    answer = await sandbox.ask("GET", path, PLATFORM, headers=headers)

    assert answer.status == 403
    assert "Host" in answer.json["message"]


async def test_a_page_that_rebinds_its_name_sends_nothing(sandbox: Sandbox, door: Door) -> None:
    """Any site a developer visits could text through his service, and reply for it."""
    created = await sandbox.provision(door.url)
    before = await fingerprint(sandbox)
    host = {"Host": "attacker.example"}
    statuses = [
        (await sandbox.ask("POST", path, body=body, headers=host)).status
        for path, body in WRITES.items()
    ]
    sent = await sandbox.ask(
        "POST", f"{BASE}/messages", instance(created["token"]), {"To": THEIRS}, headers=host
    )

    assert {*statuses, sent.status} == {403}
    assert await fingerprint(sandbox) == before
    assert door.callbacks == []


@pytest.mark.parametrize(
    "host",
    [
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "attacker.example@127.0.0.1",
        "127.0.0.1@attacker.example",
        "127.0.0.1,attacker.example",
        "127.0.0.1 attacker.example",
        "127.0.0.1/attacker.example",
        "2130706433",
        "127.1",
        EVERYWHERE,
        "192.0.2.1",
        "[::ffff:192.0.2.1]",
        "[::1",
        "::1",
        "",
    ],
)
async def test_a_host_that_is_not_this_machine_is_refused_however_it_is_written(
    sandbox: Sandbox, host: str
) -> None:
    """A name that only looks like ours would open the sandbox to its owner."""
    request = f"GET /sandbox/threads HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()

    assert b" 403 " in await raw(sandbox, request)


@pytest.mark.parametrize(
    "headers", [b"", b"Host: localhost\r\nHost: attacker.example\r\n"], ids=["none", "two"]
)
async def test_a_request_without_one_host_is_refused(sandbox: Sandbox, headers: bytes) -> None:
    """A proxy that reads the other of two would let a foreign page through."""
    request = b"GET /sandbox/threads HTTP/1.1\r\n" + headers + b"\r\n"

    assert b" 403 " in await raw(sandbox, request)


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1", "127.9.9.9", "[::1]:80"])
async def test_this_machine_is_asked_for_by_any_of_its_own_names(
    sandbox: Sandbox, host: str
) -> None:
    """A tunnel to another port, or a browser's own spelling, would be locked out."""
    answer = await sandbox.ask("GET", "/sandbox/threads", headers={"Host": host})

    assert answer.status == 200


async def test_beyond_this_machine_the_name_that_was_told_and_addresses_are_good(
    public: Sandbox,
) -> None:
    """A sandbox in a container could not be reached, or could be by everybody's name."""

    async def status(host: str) -> int:
        return (await public.ask("GET", "/sandbox/threads", headers={"Host": host})).status

    assert await status("sandbox.example:9090") == 200
    assert await status("SANDBOX.example") == 200
    assert await status("192.0.2.1:9090") == 200
    assert await status("[2001:db8::1]") == 200
    assert await status("localhost") == 200
    assert await status("attacker.example") == 403
    assert await status("sandbox.example.attacker.example") == 403


# --- which site asks --------------------------------------------------------------------------


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {"Content-Type": "text/plain; application/json"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/json-patch+json"},
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    ],
    ids=str,
)
async def test_another_sites_page_orders_nothing(
    sandbox: Sandbox, door: Door, path: str, headers: dict[str, str]
) -> None:
    """Any site open in a developer's browser could text, rotate tokens or delete the instance."""
    await sandbox.provision(door.url)
    before = await fingerprint(sandbox)
    host = urlsplit(sandbox.url).netloc
    sent = {"Content-Type": "application/json"} | headers
    sent = {name: value.format(host=host) for name, value in sent.items()}

    answer = await sandbox.ask("POST", path, data=json.dumps(WRITES[path]), headers=sent)

    assert answer.status == (415 if "Content-Type" in headers else 403)
    assert answer.json["message"]
    assert await fingerprint(sandbox) == before
    assert door.callbacks == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/sandbox/threads", "/sandbox/records", "/sandbox/events"])
async def test_another_sites_page_is_shown_nothing(sandbox: Sandbox, path: str, site: str) -> None:
    """A page could load our answers as its own script or picture."""
    answer = await sandbox.ask("GET", path, headers={"Sec-Fetch-Site": site})

    assert answer.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "Application/JSON"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://{host}"},
    ],
    ids=str,
)
async def test_our_own_page_and_whoever_is_no_browser_may_order(
    sandbox: Sandbox, door: Door, headers: dict[str, str]
) -> None:
    """The phone page and every script would be locked out."""
    await sandbox.provision(door.url)
    host = urlsplit(sandbox.url).netloc
    sent = {"Content-Type": "application/json"} | headers
    sent = {name: value.format(host=host) for name, value in sent.items()}

    answer = await sandbox.ask("POST", "/sandbox/texts", data=b'{"body": "hi"}', headers=sent)

    assert (answer.status, len(door.callbacks)) == (200, 1)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json;charset=UTF-8", 200),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
async def test_the_platforms_api_takes_json_as_json_alone(
    sandbox: Sandbox, content_type: str, status: int
) -> None:
    """A wrong header would go unnoticed until production."""
    created = await sandbox.provision()
    body = json.dumps({"To": THEIRS, "From": OURS, "Body": "hi"})
    headers = {"Content-Type": content_type}

    for path in ("/messages", "/hubs/messaging/messages"):
        answer = await sandbox.ask(
            "POST", BASE + path, instance(created["token"]), data=body, headers=headers
        )
        assert answer.status == status
    changed = await sandbox.ask(
        "PATCH", f"{BASE}/instances/{created['id']}", PLATFORM, data=b"{}", headers=headers
    )
    assert changed.status == status


# --- where it calls ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://attacker.example/",
        "http://localhost.attacker.example/",
        "http://127.0.0.1@attacker.example/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "https://[2001:db8::1]/",
    ],
)
@pytest.mark.parametrize("relay", ["off", "instead"])
async def test_a_callback_url_beyond_this_machine_is_not_called(
    sandbox: Sandbox, door: Door, url: str, relay: str
) -> None:
    """Whoever can provision an instance could make this machine POST into its network."""
    await sandbox.provision(url.format(port=urlsplit(door.url).port))
    await sandbox.switch(relay=relay)

    answer = await sandbox.text()

    assert (answer["status"], answer["state"], door.callbacks) == (0, "failed", [])
    assert "beyond this machine" in answer["detail"]
    assert "--public" in answer["detail"]


async def test_polled_events_and_reports_go_nowhere_else_either(
    sandbox: Sandbox, door: Door
) -> None:
    """The ways around the callback would stay open."""
    elsewhere = f"http://0.0.0.0:{urlsplit(door.url).port}/"
    created = await sandbox.provision(elsewhere)
    await sandbox.text("hello", lost=True)
    polled = await sandbox.ask("POST", "/sandbox/poll", body={})
    await sandbox.switch(status_callbacks="delivered")
    await sandbox.send(created["token"])
    body = {"To": THEIRS, "Body": "hi", "StatusCallback": elsewhere}
    await sandbox.send(created["token"], body)
    await asyncio.sleep(0.3)

    (told,) = polled.json["polled"]
    assert "beyond this machine" in told["events"]
    assert door.callbacks == []


async def test_with_public_it_calls_wherever_it_is_told_to(public: Sandbox, door: Door) -> None:
    """A service on another machine could not be tried."""
    await public.provision(f"http://0.0.0.0:{urlsplit(door.url).port}/")

    assert (await public.text())["status"] == 200
    assert len(door.callbacks) == 1


# --- how much is sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [f"{BASE}/messages", f"{BASE}/instances", "/sandbox/texts", "/sandbox/switches"]
)
async def test_open_connectors_fact_21_a_body_that_is_too_large_is_429_before_it_has_come(
    sandbox: Sandbox, path: str
) -> None:
    """Whoever sends without end would fill the memory."""
    created = await sandbox.provision()
    address = urlsplit(sandbox.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: {instance(created['token'])}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    writer.write(head.encode())
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for _ in range(BODY_LIMIT_BYTES // 0x10000 + 1):
        writer.write(chunk)
    # The body has no end yet: the answer comes all the same.
    async with asyncio.timeout(10):
        answer = await reader.readline()
    writer.close()

    assert b" 429 " in answer


async def test_a_body_of_just_the_limit_is_read(sandbox: Sandbox) -> None:
    """A limit that is off by one would refuse what the platform takes."""
    created = await sandbox.provision()
    body = b'{"Body": "%b"}' % (b"x" * (BODY_LIMIT_BYTES - 12))
    headers = {"Content-Type": "application/json"}
    path = f"{BASE}/messages"
    token = instance(created["token"])

    fits = await sandbox.ask("POST", path, token, data=BytesIO(body), headers=headers)
    over = await sandbox.ask("POST", path, token, data=BytesIO(body + b" "), headers=headers)

    assert (len(body), fits.status, over.status) == (BODY_LIMIT_BYTES, 400, 429)


# --- where it listens -------------------------------------------------------------------------


def run_sandbox(*arguments: str, fd: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; it ends with its standard input, at once."""
    given = [] if fd is None else ["--fd", str(fd)]
    return subprocess.run(
        [sys.executable, "-m", "service", "sandbox", *arguments, *given, "--stop-with-stdin"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        input="",
        pass_fds=[] if fd is None else [fd],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1", "sandbox.example"])
def test_it_does_not_listen_beyond_this_machine_unless_it_is_told_to(host: str) -> None:
    """Everybody in the same network could read the texts and order the sandbox about."""
    ended = run_sandbox("--host", host, "--port", "0")

    assert ended.returncode == 2
    assert f"--host: {host} can be reached from other machines" in ended.stderr
    assert "--public" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Phone page" not in ended.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("--host", "localhost"), ("--host", "127.0.0.2")], ids=str
)
def test_it_listens_at_this_machine_without_being_told(arguments: tuple[str, ...]) -> None:
    """The command in the README would not start."""
    ended = run_sandbox(*arguments, "--port", "0")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Phone page: http://127.0.0." in ended.stdout


def test_it_listens_beyond_this_machine_when_it_is_told_to() -> None:
    """A sandbox in a container could not be used at all."""
    ended = run_sandbox("--host", EVERYWHERE, "--port", "0", "--public", "--name", "sandbox")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Phone page: http://0.0.0.0:" in ended.stdout


def test_a_listener_that_is_handed_over_is_looked_at_as_well() -> None:
    """Whoever starts it with a socket would go around the question."""
    with socket.create_server((EVERYWHERE, 0)) as open_to_all:
        ended = run_sandbox(fd=open_to_all.fileno())

    assert ended.returncode == 2
    assert "--host: 0.0.0.0 can be reached from other machines" in ended.stderr
