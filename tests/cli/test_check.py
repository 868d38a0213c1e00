"""`parley check`: what a start would say, without one."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.cli.test_commands import parley

SHIPPED = Path(__file__).parents[2] / "config"

COMPLETE = {
    "PUBLIC_URL": "https://sms.example.com",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "TWILIO_AUTH_TOKEN": "token-of-the-account",
    "TWILIO_SENDER": "+14155550100",
    "OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:1/elements/api-v2",
    "OPEN_CONNECTORS_USER_SECRET": "user-secret=",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization-secret",
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
}

HANDLERS = """
import re
from service import Router

print("imported")
router = Router()


@router.pattern("bal")
def start(message):
    return "?"


@router.keyword("BALANCE")
async def balance(message):
    return "5 credits"


@router.pattern(r"order (?P<number>\\d+)")
async def order(message, number):
    return number
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A config folder of one's own."""
    for name in ("service.toml", "instance.json", "message.json", "redis.conf"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def test_all_is_well_and_routes_are_listed_with_what_they_hide(folder: Path) -> None:
    """An operator learns from the first text that no answer comes."""
    ran = parley("check", CONFIG_DIR=str(folder), **COMPLETE)

    assert ran.returncode == 0
    told = ran.stdout.splitlines()
    assert told[0].endswith(
        f" settings are in effect, {len(COMPLETE) + 1} of them set by somebody."
    )
    assert f"{folder}/instance.json is read." in told
    assert f"{folder}/handlers.py has 3 routes, tried in this order:" in told
    at = [line.split() for line in told if f"{folder}/handlers.py:" in line]
    assert [line[0] for line in at] == ["1", "2", "3"]
    assert at[1][1:] == ["keyword", "BALANCE", f"{folder}/handlers.py:14"]
    assert told[-1] == "All is well: `parley serve` would start."
    assert "imported" not in told
    assert f"Hardly ever reached: {folder}/handlers.py:14: keyword BALANCE" in ran.stderr


def test_scripts_get_it_as_json_whatever_a_handlers_file_prints(folder: Path) -> None:
    """A pipeline that asks before it deploys can't read the answer."""
    ran = parley("check", "--json", CONFIG_DIR=str(folder), **COMPLETE)

    found = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert (found["ok"], found["problems"], found["unchecked"]) == (True, [], [])
    assert found["settings"]["given"] == len(COMPLETE) + 1
    assert found["files"] == [str(folder / "instance.json"), str(folder / "message.json")]
    assert found["handlers"] == str(folder / "handlers.py")
    assert [each["route"] for each in found["routes"]] == [
        "pattern bal",
        "keyword BALANCE",
        r"pattern order (?P<number>\d+)",
    ]
    (warning,) = found["warnings"]
    assert "keyword BALANCE is not reached" in warning


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "content", "environ"),
    [
        pytest.param("", "", {"HANDLER_ATTEMPTS": "few", "PORT": "99999"}, id="settings"),
        pytest.param("service.toml", "handler_attempt = 3\n", {}, id="service.toml"),
        pytest.param("handlers.py", "from service import Routr\n", {}, id="handlers"),
        pytest.param("handlers.py", "import nothing_like_it\n", {}, id="what handlers import"),
        pytest.param("instance.json", '{"element": {"key": "twilio"}}', {}, id="instance.json"),
        pytest.param("message.json", '{"Body": "${text}"}', {}, id="message.json"),
    ],
)
def test_it_says_what_a_start_says_and_ends_as_it_does(
    folder: Path, name: str, content: str, environ: dict[str, str]
) -> None:
    """What was checked and found good does not start."""
    if name:
        (folder / name).write_text(content)
    environ = {**COMPLETE, "CONFIG_DIR": str(folder), "PORT": "0", "INTERNAL_PORT": "0"} | environ

    checked, started = parley("check", **environ), parley("serve", **environ)

    assert (checked.returncode, started.returncode) == (2, 2)
    # All but its log, and what the handlers file prints.
    said = [line for line in started.stderr.splitlines() if not line.startswith("{")]
    assert said
    assert set(said) <= set(checked.stderr.splitlines())
    assert "All is well" not in checked.stdout
    found = json.loads(parley("check", "--json", **environ).stdout)
    assert not found["ok"]
    assert set(said) <= {line for each in found["problems"] for line in each.split("\n")}


def test_what_may_be_typed_later_is_named_and_is_no_mistake(folder: Path) -> None:
    """A pipeline would stop a service that starts, or pass one that answers nobody in silence."""
    data = folder / "data"
    bare = {"PUBLIC_URL": COMPLETE["PUBLIC_URL"], "DATA_DIR": str(data), "CONFIG_DIR": str(folder)}
    ran = parley("check", **bare, TWILIO_SENDER=COMPLETE["TWILIO_SENDER"])
    assert ran.returncode == 0
    assert "Nobody has set OPEN_CONNECTORS_BASE_URL, OPEN_CONNECTORS_USER_SECRET, " in ran.stderr
    assert "TWILIO_SENDER" not in ran.stderr
    assert "instance.json can be checked once" in ran.stderr
    assert f"{folder}/message.json is read." in ran.stdout
    assert not data.exists()
    found = json.loads(parley("check", "--json", **bare).stdout)
    assert (found["ok"], len(found["untyped"])) == (True, 6)

    for name, value in (("REDIS_URL", COMPLETE["REDIS_URL"]), ("TWILIO_ACCOUNT_SID", "AC1")):
        ran = parley("check", **bare, **{name: value})
        assert ran.returncode == 2
        wrong = "SECRET_KEY is missing" if name == "REDIS_URL" else "TWILIO_ACCOUNT_SID "
        assert wrong in ran.stderr


def test_several_mistakes_are_told_at_once(folder: Path) -> None:
    """Each mistake costs another attempt."""
    (folder / "instance.json").write_text("{")
    (folder / "message.json").write_text('{"Body": "${text}"}')
    (folder / "handlers.py").write_text("router = Router()\n")

    ran = parley("check", CONFIG_DIR=str(folder), **COMPLETE)
    assert ran.returncode == 2
    assert f"{folder}/instance.json:1: " in ran.stderr
    assert f"{folder}/message.json:1: unknown placeholder ${{text}}" in ran.stderr
    assert f"{folder}/handlers.py:1: NameError: name 'Router' is not defined" in ran.stderr

    ran = parley("check", CONFIG_DIR=str(folder), **(COMPLETE | {"PUBLIC_URL": "nowhere"}))
    assert ran.returncode == 2
    assert "PUBLIC_URL " in ran.stderr
    assert "NameError" in ran.stderr
    assert "instance.json and message.json can be checked once" in ran.stderr


def test_neither_redis_nor_the_connector_is_asked(folder: Path) -> None:
    """A check in a pipeline changes, or needs, what runs in production."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        address = f"127.0.0.1:{port}"
        environ = {
            **COMPLETE,
            "CONFIG_DIR": str(folder),
            "REDIS_URL": f"redis://{address}/0",
            "OPEN_CONNECTORS_BASE_URL": f"http://{address}/elements/api-v2",
            "PORT": str(port),  # Taken, as by the service that runs: no matter of files.
        }
        assert parley("check", **environ).returncode == 0
        with pytest.raises(BlockingIOError):
            listener.accept()

    data = folder / "data"
    own = {name: value for name, value in COMPLETE.items() if name != "REDIS_URL"}
    assert parley("check", CONFIG_DIR=str(folder), DATA_DIR=str(data), **own).returncode == 0
    assert not data.exists()
