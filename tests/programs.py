"""Programs that tests run, and in which environment.

Those of the system: skipped without one on a user's machine, failed in CI.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MEASURES = ("COVERAGE_PROCESS_START", "COVERAGE_FILE")
"""What `.ci/run` sets, so that processes measure which lines of the service they run."""


def bare_environ(*kept: str, **more: str) -> dict[str, str]:
    """Return an environment for `python -m service` without any settings of the user's.

    kept: names of variables of ours that it takes over besides PATH. more: what else is set.
    """
    names = ("PATH", *MEASURES, *kept)
    ours = {name: os.environ[name] for name in names if name in os.environ}
    return ours | {"PYTHONPATH": str(ROOT)} | more


def program(*names: str, package: str) -> str:
    """Return the path of the first of these programs; package: Debian's, which has it."""
    for name in names:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail(f"CI has to have {names[0]}: .ci/run installs it")
    pytest.skip(f"no {names[0]} on PATH; install it (apt-get install {package})")
