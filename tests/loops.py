"""The event loops to test on: the product runs on uvloop, most tests on asyncio's own."""

from __future__ import annotations

import pytest

BOTH_LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
"""Parameters of a fixture `anyio_backend`."""
