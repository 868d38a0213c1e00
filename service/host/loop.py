"""The event loop that a process of the service runs on."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run until `main` has returned; returns what it returns."""
    return uvloop.run(main)
