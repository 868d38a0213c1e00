"""The limit of open files: raised at the start, and said where it is low."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import bare_environ

ROOT = Path(__file__).parents[2]

CODE = """
import socket, sys
from service.host.logs import set_up_logs
from service.host.descriptors import needed_for, raise_limit, usable
set_up_logs("json", "info")
before = usable()
assert raise_limit(needed=int(sys.argv[1])) == usable()
opened = [socket.socket() for _ in range(int(sys.argv[2]))]
print(before, usable(), needed_for(10, 20) > 30)
"""


def limited(
    soft: int, hard: int, *command: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with these limits of open files."""
    return subprocess.run(
        ["/bin/sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", *command],
        env=bare_environ(**environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("needed", "warned"), [(700, False), (701, True)])
def test_the_limit_is_raised_as_far_as_it_may_be_and_said_when_that_is_low(
    needed: int, warned: bool
) -> None:
    """At the usual limit every new connection is reset without a line in the log."""
    ran = limited(100, 700, sys.executable, "-c", CODE, str(needed), "300")
    assert (ran.returncode, ran.stdout) == (0, "100 700 True\n"), ran.stderr
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(each["limit"], each["needed"]) for each in events] == [(700, needed)] * warned


def test_a_service_starts_with_the_limit_raised_and_says_when_it_is_low() -> None:
    """Whoever runs it learns of the limit from callers who were turned away."""
    settings = {
        "PUBLIC_URL": "https://sms.example.com",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "TWILIO_SENDER": "+15005550100",
        "OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:1/elements/api-v2",
        "OPEN_CONNECTORS_USER_SECRET": "user",
        "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization",
        "SECRET_KEY": "k" * 32,
        "HOME": "/nonexistent",
        "CONFIG_DIR": str(ROOT / "config"),
        "LOG_FORMAT": "json",
        # It ends as soon as it would open its data folder.
        "DATA_DIR": "/dev/null/nowhere",
        "PORT": "0",
        "INTERNAL_PORT": "0",
        "SEND_CONCURRENCY": "3000",
    }
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > 1000, "this machine allows too few open files"
    ran = limited(256, 1000, sys.executable, "-m", "service", "serve", **settings)
    (event,) = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert event["limit"] == 1000
    assert event["needed"] > 4000
    assert "LimitNOFILE" in event["advice"]
