"""`parley connector docs`, `request`, `map` and `formula`, typed beside the real sandbox."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cli.test_commands import COMPLETE, ROOT, parley
from tests.connector.pieces import ORGANIZATION, OURS, THEIRS, USER
from tests.sandboxed import bare, environ, platform, token

__all__ = ["bare", "environ", "platform", "token"]

pytestmark = pytest.mark.anyio

TEXT = json.dumps({"To": THEIRS, "From": OURS, "Body": "hi"})

Run = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
async def run(environ: dict[str, str], token: str) -> Run:
    """Run `parley connector ...` without a terminal; no output of it has a secret."""

    async def typed(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "service", "connector", *arguments],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
            | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = ran.stdout + ran.stderr
        assert "Traceback" not in said, said
        for secret in (token, USER, ORGANIZATION):
            assert secret not in said
        return ran

    return typed


async def on_terminal(environ: dict[str, str], *arguments: str, answer: str = "") -> list[str]:
    """Run `parley connector ...` on a terminal of 80 columns, and answer what it asks."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    given = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "connector", *arguments],
        env=given | environ | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    def talk() -> bytes:
        said, left = b"", answer
        while select.select([ours], [], [], 60)[0]:
            try:
                said += os.read(ours, 65536)
            except OSError:
                return said  # how a terminal ends on Linux
            if left and b"[y/N]" in said:
                os.write(ours, f"{left}\n".encode())
                left = ""
        return said

    try:
        said = await asyncio.to_thread(talk)
    finally:
        os.close(ours)
        await asyncio.to_thread(process.wait, 30)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).splitlines()


async def test_the_reference_is_read_searched_and_fits_a_terminal(
    environ: dict[str, str],
    token: str,
    run: Callable[..., Awaitable[subprocess.CompletedProcess[str]]],
) -> None:
    """The instance's API would be known from JSON alone."""
    lines = await on_terminal(environ, "docs")
    assert max(map(len, lines)) <= 80
    assert any(re.search(r"createMessage +POST /messages +Send a message", x) for x in lines)
    one = await on_terminal(environ, "docs", "getMessages")
    before = one[: one.index("Example")]
    assert max(map(len, before)) <= 80
    assert any(re.search(r"pageSize +query +integer +Rows of a page", x) for x in before)
    assert "  parley connector request GET /messages --query pageSize=5" in one

    found = json.loads((await run("docs", "--search", "media", "--json")).stdout)
    assert {each["id"] for each in found["operations"]} >= {"createMessage", "getMessageMedia"}
    whole = json.loads((await run("docs", "createMessage", "--json")).stdout)["operations"][0]
    assert {"To", "Body"} <= {each["path"] for each in whole["body"]["fields"]}
    missing = await run("docs", "creatMesage")
    assert missing.returncode == 2
    assert "is createMessage" in missing.stderr
    assert (await run("docs", "createMessage", "--search", "x")).returncode == 2


async def test_a_request_is_sent_shown_and_bounded_to_the_instance(
    run: Callable[..., Awaitable[subprocess.CompletedProcess[str]]], tmp_path: Path
) -> None:
    """The token would have to be dug out to ask the instance anything."""
    refused = await run("request", "POST", "/messages", "--data", TEXT)
    assert (refused.returncode, refused.stdout.strip()) == (2, "")
    assert "add --yes" in refused.stderr
    assert (await run("request", "POST", "/messages", "--data", "-", stdin=TEXT)).returncode == 2
    empty = json.loads((await run("request", "GET", "/messages", "--json")).stdout)
    assert (empty["status"], empty["body"]) == (200, [])

    sent = await run("request", "POST", "/messages", "--data", "-", "--yes", "--json", stdin=TEXT)
    sid = json.loads(sent.stdout)["body"]["sid"]
    file = tmp_path / "text.json"
    file.write_text(TEXT)
    assert (
        await run("request", "POST", "/messages", "--data", f"@{file}", "--yes")
    ).returncode == 0
    log = await run("request", "GET", "/messages", "--query", "pageSize=1", "--query", "page=2")
    assert re.match(r"200 in \d+ ms, \d+ bytes\n", log.stdout)
    assert "elements-returned-count: 1\n" in log.stdout
    assert f'"sid": "{sid}"' in log.stdout

    wrong = await run("request", "GET", "/messages/SMnope")
    assert wrong.returncode == 1
    (id_,) = re.findall(r'"requestId": "(\w+)"', wrong.stdout)
    assert f"requestId: {id_}" in wrong.stderr
    for path in ("https://evil.example/", "//evil.example/", "/../instances", "/instances"):
        away = await run("request", "GET", path)
        assert (away.returncode, away.stdout) == (2, "")
        assert away.stderr.startswith(f"PATH {path}: ")
    gone = await run("request", "POST", "/messages", "--data", "@/nowhere", "--yes")
    assert gone.returncode == 2
    assert "can't be read" in gone.stderr


async def test_a_long_answer_is_cut_on_the_screen_and_whole_in_json(
    environ: dict[str, str],
    token: str,
    run: Callable[..., Awaitable[subprocess.CompletedProcess[str]]],
) -> None:
    """A terminal that scrolls for minutes shows nothing."""
    authorization = f"User {USER}, Organization {ORGANIZATION}, Element {token}"
    url = f"{environ['OPEN_CONNECTORS_BASE_URL']}/messages"
    async with aiohttp.ClientSession(headers={"Authorization": authorization}) as session:
        for _ in range(70):
            text = {"To": THEIRS, "From": OURS, "Body": "x" * 1600}
            async with session.post(url, json=text) as answer:
                assert answer.status == 200
    words = ("request", "GET", "/messages", "--query", "pageSize=70")

    shown = await run(*words)
    assert len(shown.stdout) < 110_000
    assert re.search(r"\d+ more characters; --json prints all of it", shown.stderr)
    assert len(json.loads((await run(*words, "--json")).stdout)["body"]) == 70


async def test_a_request_that_writes_asks_and_no_is_no(
    environ: dict[str, str],
    token: str,
    run: Callable[..., Awaitable[subprocess.CompletedProcess[str]]],
) -> None:
    """A slip of the fingers would text somebody."""
    typed = ("request", "POST", "/messages", "--data", TEXT)
    said = await on_terminal(environ, *typed, answer="n")
    assert any("Send it? [y/N]" in line for line in said)
    assert json.loads((await run("request", "GET", "/messages", "--json")).stdout)["body"] == []
    await on_terminal(environ, *typed, answer="y")
    log = json.loads((await run("request", "GET", "/messages", "--json")).stdout)
    assert len(log["body"]) == 1


@pytest.mark.parametrize("how", ["--curl", "--python"])
def test_a_request_is_written_without_sending_it(how: str) -> None:
    """Nothing answers at this address, and no secret belongs in a ticket."""
    ran = parley("connector", "request", "DELETE", "/x", how, **COMPLETE)
    assert ran.returncode == 0, ran.stderr
    assert "http://127.0.0.1:9/elements/api-v2/hubs/messaging/x" in ran.stdout
    assert "INSTANCE_TOKEN" in ran.stdout
    both = parley("connector", "request", "GET", "/x", "--curl", "--python", **COMPLETE)
    assert both.returncode == 2


async def test_a_resource_is_made_mapped_listed_shown_and_removed(
    environ: dict[str, str],
    token: str,
    run: Callable[..., Awaitable[subprocess.CompletedProcess[str]]],
) -> None:
    """The documentation's next step would need its console."""
    await run("request", "POST", "/messages", "--data", TEXT, "--yes")
    words = ("map", "set", "texts", "--new", "--field", "id=sid", "--field", "words=body")
    assert "add --yes" in (await run(*words)).stderr
    no = await on_terminal(environ, *words, answer="n")
    assert max(map(len, no)) <= 80
    assert any(re.search(r"words +body +hi", line) for line in no)
    listed = json.loads((await run("map", "list", "--json")).stdout)
    assert (listed["resources"], listed["mapped"]) == ([], [])

    saved = json.loads((await run(*words, "--yes", "--json")).stdout)
    assert saved["sample"]["words"] == "hi"
    assert saved["fields"] == {"id": "sid", "words": "body"}
    listed = json.loads((await run("map", "list", "--json")).stdout)
    assert [each["name"] for each in listed["mapped"]] == ["texts"]
    assert "id=sid, words=body" in (await run("map", "list")).stdout
    shown = await run("map", "show", "texts")
    assert re.search(r"words +string +body +hi", shown.stdout)
    removed = await run("map", "remove", "texts", "--definition", "--yes", "--json")
    assert json.loads(removed.stdout) == {"removed": "texts", "definition": True}
    assert "no common resources" in (await run("map", "list")).stdout


async def test_mapping_the_message_log_warns_before_it_asks(
    environ: dict[str, str], token: str
) -> None:
    """Whoever said yes would find out when a reply is in doubt."""
    words = ("map", "set", "messages", "--new", "--field", "id=sid")
    said = "\n".join(await on_terminal(environ, *words, answer="n"))
    assert said.index("is the message log itself") < said.index("[y/N]")


async def test_a_formula_is_put_to_work_listed_and_deleted(
    platform: Callable[..., Awaitable[Any]],
    run: Callable[..., Awaitable[subprocess.CompletedProcess[str]]],
) -> None:
    """The documentation's next step would need its console."""
    entry: dict[str, Any] = {"key": "texts", "name": "Texts of", "type": "elementInstance"}
    await platform("POST", "/formulas", {"name": "To CRM", "configuration": [entry]})

    made = json.loads((await run("formula", "create", "To CRM", "--name", "mine", "--json")).stdout)
    listed = await run("formula", "list")
    assert re.search(r"To CRM +texts \(elementInstance\)", listed.stdout)
    assert re.search(rf"{made['id']} +mine +To CRM +on", listed.stdout)
    assert "add --yes" in (await run("formula", "remove", made["id"])).stderr
    assert (await run("formula", "remove", made["id"], "--yes")).returncode == 0
    assert json.loads((await run("formula", "list", "--json")).stdout)["at_work"] == []
    unknown = await run("formula", "create", "nothing")
    assert unknown.returncode == 2
    assert "(To CRM)" in unknown.stderr


async def test_what_they_changed_is_in_the_audit_trail_and_what_they_read_is_not(
    environ: dict[str, str], platform: Callable[..., Awaitable[Any]], run: Run
) -> None:
    """Who sent a text by hand, or took the mapping away, would be known to nobody."""
    entry: dict[str, Any] = {"key": "texts", "name": "Texts of", "type": "elementInstance"}
    await platform("POST", "/formulas", {"name": "To CRM", "configuration": [entry]})
    for arguments in (
        ("request", "GET", "/messages"),
        ("request", "POST", "/messages", "--data", TEXT, "--yes"),
        ("map", "set", "texts", "--new", "--field", "id=sid", "--yes"),
        ("map", "list"),
        ("map", "remove", "texts", "--yes"),
        ("formula", "create", "nothing"),
        ("formula", "list"),
    ):
        await run(*arguments)
    made = json.loads((await run("formula", "create", "To CRM", "--json")).stdout)["id"]
    await run("formula", "remove", made, "--yes")
    shown = await asyncio.to_thread(parley, "audit", "--json", **environ)
    acts = [(act["what"], act["about"], act["outcome"]) for act in json.loads(shown.stdout)]
    assert [what for what, _, _ in acts[::-1]] == [
        "connector request",
        "connector map set",
        "connector map remove",
        "connector formula create",
        "connector formula remove",
    ]
    assert acts[4][1:] == ("POST /hubs/messaging/messages", "answered 200")
    assert acts[3][1:] == ("texts", "done")
    assert acts[1][1:] == (f"formula {made} of template To CRM", "done")
    assert THEIRS not in shown.stdout
    assert "Body" not in shown.stdout
