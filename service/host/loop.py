"""The event loops that a process of the service runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run until `main` has returned; returns what it returns."""
    return uvloop.run(main)


def make_runner() -> asyncio.Runner:
    """Make what runs a process of the service, for whoever decides on its end."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
