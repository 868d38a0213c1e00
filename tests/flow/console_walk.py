"""What the console is entered by: its commands beside a deployment, and a browser's first steps."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.flow.conftest import ROOT, Deployment, fetch, until

TYPED = (
    "OPEN_CONNECTORS_BASE_URL",
    "OPEN_CONNECTORS_USER_SECRET",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET",
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_SENDER",
)
"""Settings that a service can do without, and that are typed then."""


def parley(deployment: Deployment, *arguments: str, given: str = "") -> str:
    """Run a command beside the service; returns what it printed."""
    environ = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environ |= {"PYTHONPATH": str(ROOT), "CONFIG_DIR": str(ROOT / "config")}
    port = {"INTERNAL_PORT": str(urlsplit(deployment.internal).port)}
    ran = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environ | deployment.settings | port,
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def address_of(deployment: Deployment, role: str = "operator") -> str:
    """Make a one-time address."""
    printed = json.loads(parley(deployment, "console", "--role", role, "--json"))
    return str(printed["address"])


def enter(deployment: Deployment, page: Page) -> None:
    """Sign in by a one-time address."""
    page.goto(address_of(deployment))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def serve_bare(deployment: Deployment, *arguments: str) -> None:
    """Start a service that is not set up, and wait until it answers."""
    deployment.serve(*arguments, ready=False)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return fetch(f"{deployment.internal}/readyz", timeout_s=5)[0] == 503
        return False

    until(answers)
