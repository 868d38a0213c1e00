"""Breaks one method of a real process: a `sitecustomize` that its interpreter runs at its start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.flow.conftest import ROOT

CODE = """
import functools, importlib, os

module, _, path = os.environ["BREAK"].partition(":")
name, method = path.split(".")
owner = getattr(importlib.import_module(module), name)
whole = getattr(owner, method)
left = [int(os.environ["BREAK_TIMES"])]

@functools.wraps(whole)
async def broken(*args, **kwargs):
    if left[0] > 0:
        left[0] -= 1
        raise TypeError("broken on purpose")
    return await whole(*args, **kwargs)

setattr(owner, method, broken)
if "BREAK_FAILURES" in os.environ:
    import service.workers.supervised
    service.workers.supervised.FAILURES = int(os.environ["BREAK_FAILURES"])
"""


def broken(folder: Path, what: str, times: int, failures: int | None = None) -> dict[str, Any]:
    """Return the environment of a process whose coroutine method raises at its first calls.

    what: "module:Class.method". failures: after how many in a row a task is given up, sooner than
    in earnest.
    """
    place = folder / "broken"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(CODE)
    environ = {"PYTHONPATH": os.pathsep.join((str(place), str(ROOT)))}
    environ |= {"BREAK": what, "BREAK_TIMES": str(times)}
    return environ | ({} if failures is None else {"BREAK_FAILURES": str(failures)})
