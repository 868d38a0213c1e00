"""The command line as people type it, right and wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import typer
from twilio.request_validator import RequestValidator
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from service.cli.app import app
from tests.programs import bare_environ

ROOT = Path(__file__).parents[2]
URL = "https://sms.example.com/callbacks/twilio"
PARAMS = {"Body": "hello", "From": "+15005550123", "MessageSid": "SM1"} | dict.fromkeys(
    ("FromCity", "FromState", "FromZip", "FromCountry"), ""
)


COMPLETE = {
    "PUBLIC_URL": "https://sms.example.com",
    "TWILIO_ACCOUNT_SID": f"AC{'0' * 32}",
    "TWILIO_AUTH_TOKEN": "0" * 32,
    "TWILIO_SENDER": "+15005550100",
    "OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:9/elements/api-v2",
    "OPEN_CONNECTORS_USER_SECRET": "user",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization",
    "SECRET_KEY": "k" * 40,
}
"""Every setting that has no default."""


def parley(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an empty environment."""
    ran = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=bare_environ(HOME="/nonexistent", **environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def explained(*options: str, **environ: str) -> tuple[int, str]:
    """Run `explain-signature` here, as its start is that of every command; status and words."""
    unset = dict.fromkeys(("TWILIO_AUTH_TOKEN", "TWILIO_SHARED_KEYS"))
    ran = CliRunner().invoke(
        app, ["explain-signature", *options], env=unset | environ, catch_exceptions=False
    )
    return ran.exit_code, ran.stdout


def explain(url: str, body: str, *, signed_for: str = URL) -> tuple[int, str]:
    """Ask why a signature made for `signed_for` does not match `url` and `body`."""
    signature = RequestValidator("12345").compute_signature(signed_for, PARAMS)
    options = ("--url", url, "--body", body, "--signature", signature)
    return explained(*options, TWILIO_AUTH_TOKEN="12345")


def test_a_genuine_signature_is_said_to_match() -> None:
    """People would look for a mistake where there is none."""
    assert explain(URL, urlencode(PARAMS)) == (0, "The signature matches.\n")


@pytest.mark.parametrize(
    ("signed_for", "hint"),
    [
        pytest.param(URL.replace("https", "http"), "with http for https", id="http for https"),
        pytest.param(URL + "/", "with a trailing slash", id="a trailing slash"),
        pytest.param(URL.replace(".com", ".com:8443"), "with port 8443 added", id="another port"),
    ],
)
def test_the_nearest_reading_is_named(signed_for: str, hint: str) -> None:
    """A 403 that says nothing costs an afternoon."""
    status, said = explain(URL, urlencode(PARAMS), signed_for=signed_for)
    assert status == 1
    assert f"It would match {hint}" in said


def test_blank_fields_that_were_dropped_are_named() -> None:
    """Frameworks drop them by default, and the signature covers them."""
    status, said = explain(URL, urlencode({k: v for k, v in PARAMS.items() if v}))
    assert status == 1
    assert "with the blank fields FromCity, FromState, FromZip, FromCountry still there" in said


def test_a_body_may_come_from_a_file_and_the_answer_as_json(tmp_path: Path) -> None:
    """Bodies are long, and scripts read JSON."""
    body = tmp_path / "body.txt"
    body.write_text(urlencode(PARAMS))
    signature = RequestValidator("12345").compute_signature(URL, PARAMS)
    ran = parley(
        "explain-signature", "--url", URL, "--body", f"@{body}", "--signature", signature,
        "--token", "12345", "--json",
    )  # fmt: skip
    assert json.loads(ran.stdout) == {"matched": True, "lines": ["The signature matches."]}


def test_a_shared_key_is_tried_where_the_request_names_one() -> None:
    """The auth token can't explain what another key has signed."""
    signature = RequestValidator("secret").compute_signature(URL, PARAMS, "HMAC_SHA256")
    options = ("--url", URL, "--body", urlencode(PARAMS), "--signature", signature)
    named = ("--signed-with", "key=SK1,algorithm=HMAC_SHA256")
    status, said = explained(*options, *named, TWILIO_AUTH_TOKEN="12345")
    assert status == 1
    assert "TWILIO_SHARED_KEYS does not have it" in said
    keys = {"TWILIO_AUTH_TOKEN": "12345", "TWILIO_SHARED_KEYS": "SK1:secret"}
    assert explained(*options, *named, **keys)[0] == 0
    assert "was lost on its way" in explained(*options, TWILIO_AUTH_TOKEN="12345")[1]


def test_a_newline_that_an_editor_added_is_named(tmp_path: Path) -> None:
    """The body looks right in every viewer, and never matches."""
    body = tmp_path / "body.txt"
    body.write_text(urlencode(PARAMS) + "\n")
    status, said = explain(URL, f"@{body}")
    assert status == 1
    assert "without the newline at the end" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain-signature", "--url", "nowhere", "--signature", "x"), "begins with https://"),
        (("explain-signature", "--url", URL, "--body", "@/no/such", "--signature", "x"), "No such"),
        (("demo", "--once", "--handlers", __file__), "can't judge other handlers"),
        (("serve", "--port", "http"), "port"),
        (("serve", "--role", "king"), "web"),
    ],
    ids=["no URL", "no file", "demo", "no number", "no role"],
)
def test_a_mistake_is_answered_with_what_to_write(arguments: tuple[str, ...], said: str) -> None:
    """A traceback tells people nothing they can act upon."""
    ran = parley(*arguments, TWILIO_AUTH_TOKEN="12345", COLUMNS="200")
    assert ran.returncode in {1, 2}
    assert said in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        pytest.param(("serve",), {"REDIS_URL": "redis://:PASSxZq/7@host"}, id="Redis"),
        pytest.param(("dead", "list"), {"REDIS_URL": "unix://:PASSxZq/7@x"}, id="a socket"),
        pytest.param(("settings",), {"PUBLIC_URL": "https://a:PASSxZq@b"}, id="our own"),
        pytest.param(
            ("explain-signature", "--url", "https://[PASSxZq", "--signature", "A" * 27 + "="),
            {"TWILIO_AUTH_TOKEN": "x"},
            id="a callback's",
        ),
        *(
            pytest.param(("bench", "--url", url, "--token=x", "--account=x", "--to=x"), {}, id=url)
            for url in ("http://a:PASSxZq/7@b", "http://a:PASSxZq", "http://[PASSxZq")
        ),
    ],
)
def test_no_address_is_quoted_in_an_error_about_it(
    arguments: tuple[str, ...], environ: dict[str, str]
) -> None:
    """What was pasted wrongly holds a password more often than not."""
    ran = parley(*arguments, **environ)
    assert ran.returncode == 2
    assert "PASSxZq" not in ran.stdout + ran.stderr


def test_a_missing_token_is_named() -> None:
    """The signature can't be explained without it."""
    ran = parley("explain-signature", "--url", URL, "--signature", "x")
    assert ran.returncode == 2
    assert "TWILIO_AUTH_TOKEN is missing" in ran.stderr


def test_a_table_in_a_pipe_loses_nothing() -> None:
    """`grep` would miss what a terminal of eighty columns has no room for."""
    long = "https://" + "x" * 150 + ".example.com"
    ran = parley("settings", PUBLIC_URL=long, COLUMNS="80")
    assert "PUBLIC_URL" in ran.stdout
    assert long in ran.stdout


def test_settings_lists_all_of_them_and_what_is_wrong() -> None:
    """An operator has to see where a value came from, and never a secret."""
    ran = parley("settings", "--json", SECRET_KEY="x" * 40, PUBLIC_URL="sms.example.com")
    rows = {row["name"]: row for row in json.loads(ran.stdout)}
    assert ran.returncode == 2
    assert rows["SECRET_KEY"]["value"] == "******** (40 characters)"
    assert rows["PUBLIC_URL"]["source"] == "environment"
    assert "https://" in rows["PUBLIC_URL"]["problem"]
    port = {"name": "PORT", "value": "8080", "source": "default", "problem": ""}
    assert rows["PORT"] == port | {"means": "The public listener's port; 0 takes a free one."}


def test_the_page_of_settings_is_what_the_table_says() -> None:
    """A default that was changed would stand in the documentation for ever."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert parley("settings", "--markdown").stdout == page, (
        "run: parley settings --markdown > docs/settings.md"
    )


def test_names_close_to_a_settings_are_warned_of_and_are_no_error() -> None:
    """A time-out that somebody set would stay at its default, and nobody would know."""
    said = "HANDLER_TIMEOUTS_S is no setting; did you mean HANDLER_TIMEOUT_S?\n"
    for form in ((), ("--json",)):
        ran = parley("settings", *form, **COMPLETE, HANDLER_TIMEOUTS_S="60")
        assert (ran.returncode, ran.stderr) == (0, said)


def test_a_base_address_of_the_wrong_form_ends_the_start_with_what_to_write() -> None:
    """Every call would be answered 404, and the instance looked for in the wrong place."""
    host = "https://api.openconnectors.us2.ext.hana.ondemand.com"
    ran = parley("serve", **COMPLETE | {"OPEN_CONNECTORS_BASE_URL": host})
    assert ran.returncode == 2
    assert f"must end with /elements/api-v2; write {host}/elements/api-v2 " in ran.stderr


PROGRAM = Path(sys.executable).with_name("parley")


def commands_of(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command and group with the words that it is called by."""
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_of(each, *words, name)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        pytest.param(words, command, id=" ".join(("parley", *words)))
        for words, command in commands_of(typer.main.get_command(app))
    ],
)
def test_help_has_whole_names_and_examples_to_copy(
    words: tuple[str, ...], command: TyperGroup | TyperCommand
) -> None:
    """An option whose name is cut off, or an example that is broken in two, is of no use."""
    help_ = CliRunner().invoke(app, [*words, "--help"], terminal_width=80).stdout
    assert max(map(len, help_.splitlines())) <= 80
    assert "…" not in help_
    shown = set(help_.replace("/", " ").replace(",", " ").split())
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            named = {*parameter.opts, *parameter.secondary_opts}
            assert {name for name in named if name.startswith("-")} <= shown, parameter.opts
    inner = getattr(command, "commands", None)
    if inner is None:
        example = help_.rpartition("Example")[2].partition("\n")[2]
        assert f"parley {' '.join(words)}" in example
    else:
        # What each is for, in a whole sentence.
        assert "..." not in help_.partition("Commands:")[2]
        assert inner.keys() <= shown


def test_shell_completion_is_printed_and_installed(tmp_path: Path) -> None:
    """Long names are typed by hand."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    said = []
    for option in ("--show-completion", "--install-completion"):
        # In a shell, which it asks the system for; "; true" keeps it there.
        command = ["bash", "-c", f"{PROGRAM} {option}; true"]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert ran.stderr == ""
        said.append(ran.stdout)
    assert "complete -o default -F _parley_completion parley" in said[0]
    assert "bash completion installed in" in said[1]
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert "_PARLEY_COMPLETE=complete_bash" in script.read_text()
    assert script.name in (tmp_path / ".bashrc").read_text()


def test_a_shell_completes_commands_and_options() -> None:
    """What the script calls at each press of the key has to answer."""
    asked = {"_PARLEY_COMPLETE": "complete_bash", "COMP_WORDS": "parley dead dr", "COMP_CWORD": "2"}
    assert completed(**asked) == ["drop"]
    asked |= {"COMP_WORDS": "parley bench --connector-d", "COMP_CWORD": "2"}
    assert completed(**asked) == ["--connector-delay-ms"]


def completed(**asked: str) -> list[str]:
    """Ask the installed `parley` as a shell does."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | asked
    ran = subprocess.run([PROGRAM], env=environ, capture_output=True, text=True, check=False)
    return ran.stdout.split()


def test_a_host_that_is_none_of_ours_is_named_and_not_the_port() -> None:
    """Whoever chooses one port after the other never gets it to start."""
    ran = parley("sandbox", "--host", "192.0.2.1", "--port", "0", "--public")
    assert ran.returncode == 2
    assert ran.stderr.startswith("--host: 192.0.2.1:0 is not to be had")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = parley("sandbox", "--port", port)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"--port: 127.0.0.1:{port} is not to be had")


def test_the_connectors_error_comes_with_what_to_do() -> None:
    """The service's log says it, and so should the command that is typed instead."""
    with tempfile.TemporaryDirectory() as folder:
        ran = parley(
            "connector",
            "plan",
            DATA_DIR=folder,
            **COMPLETE,
        )
    assert ran.returncode == 1
    assert "no connection to 127.0.0.1:9" in ran.stderr
    assert "check OPEN_CONNECTORS_BASE_URL" in ran.stderr


def test_the_routes_of_a_handlers_file_are_shown_without_an_account(tmp_path: Path) -> None:
    """An author who has no account yet could not see what the file takes."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from service import Router\nrouter = Router()\nprint('loading')\n"
        "@router.keyword('Balance', 'saldo')\ndef a(message): ...\n"
        "@router.pattern('order')\ndef b(message): ...\n"
        "@router.to('+14155550100')\ndef c(message): ...\n"
        "@router.default\ndef d(message): ...\n"
    )
    ran = parley("routes", "--json", HANDLERS=str(path))
    assert [(each["kind"], each["takes"]) for each in json.loads(ran.stdout)] == [
        ("keyword", ["BALANCE", "SALDO"]),
        ("pattern", ["order"]),
        ("to", ["+14155550100"]),
        ("default", []),
    ]
    assert "everything else" in parley("routes", HANDLERS=str(path)).stdout
    path.write_text("import no_such_module\n")
    ran = parley("routes", HANDLERS=str(path))
    assert ran.returncode == 2
    assert f"{path}:1:" in ran.stderr
