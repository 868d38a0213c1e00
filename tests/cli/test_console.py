"""`parley console` and `parley audit` as people type them, right and wrong, on a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import sys
from typing import Any

import pytest

from service.cli.running import person
from service.errors import SettingsError, SignInRefused
from service.operate import audit, console
from service.operate.console import root_of
from service.store.connection import connect
from tests.cli.test_commands import COMPLETE, ROOT, parley

PASSWORD = "correct horse battery"
HERE = {"address": "127.0.0.1", "agent": "Firefox"}


def run(redis_server: str, *arguments: str, given: str = "", status: int = 0) -> Any:
    """Run a command on the test's Redis; returns it with what it printed."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environ | COMPLETE | {"REDIS_URL": redis_server, "DURABILITY": "memory"},
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran


def asked(redis_server: str, act: Any) -> Any:
    """Do something in Redis as a page of the console does."""

    async def opened() -> Any:
        client = connect(redis_server)
        try:
            return await act(client)
        finally:
            await client.aclose()

    return asyncio.run(opened())


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_the_address_that_is_printed_signs_in_once(redis_server: str, role: str) -> None:
    """Nobody would get in; or everybody who sees the terminal's history."""
    ran = run(redis_server, "console", "--role", role)
    found = re.fullmatch(
        r"http://127\.0\.0\.1:8081/console/sign-in\?token=([\w-]{43})\n", ran.stdout
    )
    assert found, ran.stdout
    assert f"signs in as {role}, once, within ten minutes" in ran.stderr
    _, session = asked(redis_server, lambda c: console.sign_in_by_token(c, found[1], **HERE))
    assert session.role == role
    with pytest.raises(SignInRefused):
        asked(redis_server, lambda c: console.sign_in_by_token(c, found[1], **HERE))


def test_the_address_as_json(redis_server: str) -> None:
    """A script opens the browser."""
    ran = run(redis_server, "console", "--json")
    shown = json.loads(ran.stdout)
    token = shown.pop("address").partition("?token=")[2]
    assert shown == {"role": "operator", "valid_s": 600}
    assert asked(redis_server, lambda c: console.sign_in_by_token(c, token, **HERE))


@pytest.mark.parametrize(
    ("host", "root"),
    [
        ("127.0.0.1", "http://127.0.0.1:8081"),
        ("0.0.0.0", "http://127.0.0.1:8081"),  # noqa: S104  (listened on, not called)
        ("::", "http://[::1]:8081"),
        ("::1", "http://[::1]:8081"),
        ("10.0.0.5", "http://10.0.0.5:8081"),
        ("localhost", "http://localhost:8081"),
    ],
)
def test_the_address_is_where_the_internal_listener_is(host: str, root: str) -> None:
    """A browser would find nothing."""
    assert root_of(host, 8081) == root


def test_a_port_that_nobody_knows_is_said_instead_of_an_address() -> None:
    """The address would lead nowhere, and its token would be gone."""
    with pytest.raises(SettingsError, match="INTERNAL_PORT is 0"):
        root_of("127.0.0.1", 0)


def test_a_password_is_read_from_standard_input_where_that_is_no_terminal(
    redis_server: str,
) -> None:
    """It would stand in the list of processes, or in a shell's history."""
    assert run(redis_server, "console", "password", given=PASSWORD + "\n").stdout == (
        "The password of the role operator is set.\n"
    )
    cookie, _ = asked(redis_server, lambda c: console.sign_in_by_password(c, PASSWORD, **HERE))
    ran = run(redis_server, "console", "password", given="something new 1\nignored\n")
    assert "Sessions that began by the former one: 1, ended now." in ran.stdout
    assert asked(redis_server, lambda c: console.session_of(c, cookie)) is None
    assert "has no password now" in run(redis_server, "console", "password", "--remove").stdout
    assert "had no password" in run(redis_server, "console", "password", "--remove").stdout


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (("password",), "", "standard input has no password"),
        (("password",), "short\n", "12 characters or more"),
        (("password", "--role", "king"), PASSWORD, "king"),
        (("end",), "", "say which: parley console end ID"),
        (("end", "1", "--all"), "", "say which: parley console end ID"),
        (("--json", "sessions"), "", "go behind `sessions`"),
        (("nonsense",), "", "nonsense"),
    ],
    ids=["nothing", "short", "no role", "no id", "both", "misplaced", "no command"],
)
def test_a_mistake_is_answered_with_what_to_write(
    redis_server: str, arguments: tuple[str, ...], given: str, said: str
) -> None:
    """A traceback tells people nothing they can act upon."""
    assert said in run(redis_server, "console", *arguments, given=given, status=2).stderr


def test_a_password_is_asked_for_twice_and_not_shown(redis_server: str) -> None:
    """Whoever looks over a shoulder would read it; a slip would lock the operator out."""

    def typed(*lines: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "console", "password"],
            env=environ | COMPLETE | {"REDIS_URL": redis_server, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        said, left, done = b"", list(lines), 0
        try:
            while select.select([ours], [], [], 20)[0] and (part := os.read(ours, 65536)):
                said += part
                # Typed when it is asked for: what comes earlier is echoed by the terminal itself.
                if left and len(re.findall(rb"(Password|confirmation): ", said)) > done:
                    done += 1
                    os.write(ours, left.pop(0).encode() + b"\n")
        except OSError:
            pass  # how a terminal ends on Linux
        finally:
            os.close(ours)
            process.wait(30)
        assert not left, said
        return process.returncode, said.decode()

    status, said = typed(PASSWORD, PASSWORD)
    assert (status, "is set" in said, PASSWORD in said) == (0, True, False)
    status, said = typed("a good password", "a goof password", PASSWORD, PASSWORD)
    assert (status, "do not match" in said) == (0, True)
    assert asked(redis_server, lambda c: console.sign_in_by_password(c, PASSWORD, **HERE))


def test_sessions_are_listed_and_ended(redis_server: str) -> None:
    """A lost laptop would stay signed in, and nobody would see it."""
    assert "Nobody is signed in." in run(redis_server, "console", "sessions").stdout

    async def begin(client: Any) -> tuple[str, console.Session]:
        return await console.sign_in_by_token(client, await console.make_token(client), **HERE)

    (cookie, session), (_, other), _ = (asked(redis_server, begin) for _ in range(3))
    rows = json.loads(run(redis_server, "console", "sessions", "--json").stdout)
    assert [row["id"] for row in rows][1:] == [other.id, session.id]
    assert set(rows[0]) == {"id", "role", "who", "began", "seen", "ends", "address", "agent"}
    table = run(redis_server, "console", "sessions").stdout
    assert all(each in table for each in (session.id, "127.0.0.1", "Firefox"))
    assert session.csrf not in table

    ran = run(redis_server, "console", "end", session.id, "nobody", status=1)
    assert ran.stdout == "1 ended.\n"
    assert "nobody: there is no such session" in ran.stderr
    assert asked(redis_server, lambda c: console.session_of(c, cookie)) is None
    ran = run(redis_server, "console", "end", "--all", "--json")
    assert json.loads(ran.stdout) == {"ended": 2, "missing": []}
    assert asked(redis_server, console.sessions) == []


def test_the_trail_is_shown_searched_and_kept_from_forging_lines(redis_server: str) -> None:
    """Nobody would find what they look for, or a stranger could write lines of it."""
    assert run(redis_server, "audit").stdout == "The audit trail is empty.\n"

    async def write(client: Any) -> None:
        for i in range(3):
            await audit.note(client, who="root@host", via="command", what=f"act {i}")
        await audit.note(client, who="x\ny\x1b[2J", via="console", what="sign out")

    asked(redis_server, write)
    rows = json.loads(run(redis_server, "audit", "--json", "--limit", "2").stdout)
    assert [(row["via"], row["what"]) for row in rows] == [
        ("console", "sign out"),
        ("command", "act 2"),
    ]
    found = run(redis_server, "audit", "--contains", "ACT 1").stdout
    assert len(found.splitlines()) == 2
    assert "root@host" in found
    assert "x\\ny\\x1b[2J" in run(redis_server, "audit").stdout
    assert "Nothing like that" in run(redis_server, "audit", "--contains", "never").stdout


def test_what_these_commands_do_is_in_the_trail(redis_server: str) -> None:
    """Who let somebody in would be known to nobody."""
    token = run(redis_server, "console").stdout.partition("token=")[2].strip()
    run(redis_server, "console", "password", given=PASSWORD + "\n")
    run(redis_server, "console", "password", given="short\n", status=2)
    run(redis_server, "console", "end", "nobody", status=1)
    run(redis_server, "dead", "drop", "1-1-1", "--yes", status=1)
    run(redis_server, "dead", "list")
    run(redis_server, "console", "sessions")
    shown = run(redis_server, "audit", "--json").stdout
    rows = [(row["what"], row["about"], row["outcome"]) for row in json.loads(shown)]
    assert rows[::-1] == [
        ("console", "a one-time address, as operator", "done"),
        ("console password", "of the role operator", "done"),
        ("console end", "session nobody", "there is no such session"),
        ("dead drop", "1-1-1", "1 missing"),
    ]
    assert {(row["who"], row["via"]) for row in json.loads(shown)} == {(person(), "command")}
    assert token not in shown
    assert PASSWORD not in shown


def test_whoever_has_no_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user has no name, no command that acts would run."""
    assert re.fullmatch(r"[^@\s]+@\S+", person())
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)  # Nobody can become such a user here.
    assert person().startswith("uid 4000000001@")


def test_without_settings_it_says_which_are_missing() -> None:
    """The address would be of nowhere."""
    ran = parley("console")
    assert ran.returncode == 2
    assert "SECRET_KEY" in ran.stderr


def test_a_console_that_is_off_is_said_instead_of_an_address() -> None:
    """The address would lead to a page that is not there, and a token lie about for nothing."""
    ran = parley("console", **COMPLETE, CONSOLE="off")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "CONSOLE: is off" in ran.stderr
