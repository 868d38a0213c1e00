"""Formulas of the platform use an instance by its id: whoever deletes it is told first."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from service.connector.formulas import at_work_on, templates_of
from service.connector.provisioning import Provisioner
from service.errors import ConnectorFailed
from service.store.instances import Instances
from tests.connector.pieces import (
    AUTH_TOKEN,
    CONFIG,
    KEY,
    ORGANIZATION,
    OURS,
    USER,
    Platform,
    connected,
    ensured,
    failure,
    provisioner,
)

pytestmark = pytest.mark.anyio

FORMULAS = [
    {"id": 1, "name": "orders by text", "formula": {"id": 11, "name": "Order \x1b[2J"}},
    {"id": 2, "formula": {"id": 12, "name": "Reminders"}},
]


COMMANDS = pytest.mark.parametrize(
    "command", ["rotate", pytest.param("remove", marks=pytest.mark.long)]
)
"""Each way to delete it: both ask by the same rule."""


@dataclass
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


async def parley(platform: Platform, redis_url: str, *words: str, typed: str = "") -> Ran:
    """Run `parley connector ...`; typed: what somebody answers, "" for nobody there."""
    settings = {
        "PUBLIC_URL": "https://sms.example.com",
        "REDIS_URL": redis_url,
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO_SENDER": OURS,
        "OPEN_CONNECTORS_BASE_URL": platform.url,
        "OPEN_CONNECTORS_USER_SECRET": USER,
        "OPEN_CONNECTORS_ORGANIZATION_SECRET": ORGANIZATION,
        "SECRET_KEY": KEY,
        "CONFIG_DIR": str(CONFIG),
        "PYTHONPATH": str(CONFIG.parent),
    }
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "connector", *words),
        env=environ | settings,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(typed.encode())
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@COMMANDS
async def test_open_connectors_fact_16_formulas_are_named_and_confirmed_before_they_break(
    platform: Platform, store: Instances, redis_server: str, command: str
) -> None:
    """Another team's order desk would stop, and nobody would know why."""
    first = await ensured(platform, store)
    platform.formulas = {first.id: FORMULAS}

    # Nobody is there to ask.
    ran = await parley(platform, redis_server, command)
    assert ran.status == 2
    assert "--yes" in ran.err
    assert "  Reminders\n" in ran.err
    assert "orders by text" in ran.err
    assert "\x1b" not in ran.err
    # Somebody says no.
    assert (await parley(platform, redis_server, command, typed="n\n")).status == 1
    assert list(platform.instances) == [first.id]

    ran = await parley(platform, redis_server, command, "--yes", "--json")
    assert ran.status == 0
    assert "  Reminders\n" in ran.err
    assert len(json.loads(ran.out)["formulas"]) == 2
    assert first.id not in platform.instances


async def test_open_connectors_fact_16_without_formulas_there_is_nothing_to_name(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """A warning at every turn is read by nobody."""
    await ensured(platform, store)
    ran = await parley(platform, redis_server, "remove", typed="y\n")
    assert ran.status == 0
    assert "formula" not in ran.err.lower()
    assert platform.instances == {}


@pytest.mark.parametrize(
    "status",
    [404, pytest.param(403, marks=pytest.mark.long), pytest.param(500, marks=pytest.mark.long)],
)
@COMMANDS
async def test_a_connector_that_does_not_tell_formulas_is_said_and_hinders_nothing(
    platform: Platform, store: Instances, redis_server: str, status: int, command: str
) -> None:
    """Who may not read formulas could not take a new token after a leak."""
    first = await ensured(platform, store)
    platform.formulas_refused = failure(status, "no formulas here")
    ran = await parley(platform, redis_server, command, "--yes", "--json")
    assert ran.status == 0
    assert "could not be found out" in ran.err
    assert str(status) in ran.err
    assert json.loads(ran.out)["formulas"] is None
    assert first.id not in platform.instances


async def replaced(platform: Platform, store: Instances, act: Any) -> list[Any]:
    """Do something to an instance that formulas use; returns what the log says of formulas."""
    async with connected(platform.url) as connector:
        with structlog.testing.capture_logs() as logs:
            await act(provisioner(connector, store))
    return [line for line in logs if "formula" in line["event"]]


async def test_open_connectors_fact_16_an_automatic_replacement_logs_the_formulas_it_breaks(
    platform: Platform, store: Instances
) -> None:
    """Nobody asked for it, so the log alone can say what stops with it."""
    first = await ensured(platform, store)
    platform.formulas = {first.id: FORMULAS}

    async def replace(one: Provisioner) -> None:
        await one.replace(first)

    [line] = await replaced(platform, store, replace)
    assert (line["instance"], line["log_level"]) == (first.id, "warning")
    assert "Reminders" in repr(line["formulas"])

    # Deleted behind our back: whatever used it is named as well.
    second = await store.load()
    assert second is not None
    del platform.instances[second.id]
    platform.formulas = {second.id: FORMULAS}
    [line] = await replaced(platform, store, Provisioner.ensure)
    assert line["instance"] == second.id
    assert await replaced(platform, store, Provisioner.ensure) == []


async def test_open_connectors_fact_13_none_is_none_even_if_it_is_answered_404(
    platform: Platform,
) -> None:
    """A fresh organization's list of formulas would be an error."""
    for read in (templates_of, lambda connector: at_work_on(connector, "1")):
        async with connected(platform.url) as connector:
            platform.overrides.append(failure(404, "No formulas found"))
            assert await read(connector) == []
            platform.overrides.append(failure(500, "Oops"))
            with pytest.raises(ConnectorFailed):
                await read(connector)
