"""The console of a process: built when it is first asked for, and once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import pytest

from service.host.answers import AsgiApp, Receive, Scope, Send, answer
from service.wiring.parts.console import Console
from tests.web.conftest import serving

DONE = answer(200, b"here")


async def here(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer anything."""
    await DONE.send(send)


def test_a_process_that_nobody_looks_at_loads_nothing_of_it() -> None:
    """Every start of a door or a worker would take longer and more memory, for pages."""
    code = (
        "import sys, service.wiring.process; "
        "print(*sorted({'jinja2', 'argon2', 'service.web.console'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == ""


@pytest.mark.anyio
async def test_it_is_built_once_and_nothing_waits_for_it() -> None:
    """Callbacks would wait while the first page is made, or sessions of two consoles differ."""
    built: list[int] = []

    def build() -> AsgiApp:
        time.sleep(0.2)
        built.append(threading.get_ident())
        return here

    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    async with (
        serving(Console(build), lifespan="off") as url,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        turning = asyncio.create_task(turn())
        answers: list[Any] = await asyncio.gather(*(client.get(url) for _ in range(5)))
        turning.cancel()
    assert [each.text for each in answers] == ["here"] * 5
    assert len(built) == 1
    assert built != [threading.get_ident()]
    assert turns > 5


@pytest.mark.anyio
async def test_a_build_that_fails_is_tried_again() -> None:
    """One moment without memory would leave the process without a console for good."""
    tries = iter((MemoryError, None))

    def build() -> AsgiApp:
        if error := next(tries):
            raise error
        return here

    async with (
        serving(Console(build), lifespan="off") as url,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        assert (await client.get(url)).status_code == 500
        assert (await client.get(url)).text == "here"
