"""What a command imports: its start is what whoever types it waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import COMPLETE

ROOT = Path(__file__).parents[2]

HTTP = {"aiohttp", "httpx"}
SERVICE = HTTP | {"cryptography", "redis", "twilio"}


@pytest.mark.parametrize(
    ("command", "needed", "not_needed"),
    [
        pytest.param("--help", {"typer"}, SERVICE | {"starlette", "structlog"}, id="help"),
        pytest.param("dead list", {"redis"}, HTTP | {"starlette", "uvicorn"}, id="dead letters"),
        pytest.param("optouts", {"redis"}, HTTP | {"starlette", "uvicorn"}, id="opt-outs"),
        pytest.param(
            "sandbox --host 192.0.2.1 --public",
            {"starlette"},
            SERVICE - {"twilio"},
            id="the sandbox",
        ),
        pytest.param("connector plan", HTTP, {"starlette", "uvicorn"}, id="the connector"),
    ],
)
def test_a_command_imports_what_it_needs(
    command: str, needed: set[str], not_needed: set[str]
) -> None:
    """Each library costs everybody who types it, or a script that loops, a tenth of a second."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "service", *command.split()],
        env=environ | COMPLETE | {"REDIS_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    rows = [line for line in ran.stderr.splitlines() if line.startswith("import time:")]
    imported = {row.rpartition("|")[2].strip().partition(".")[0] for row in rows}
    assert needed <= imported
    assert not imported & not_needed
