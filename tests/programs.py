"""Programs of the system that tests run: skipped without one on a user's machine, failed in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def program(*names: str, package: str) -> str:
    """Return the path of the first of these programs; package: Debian's, which has it."""
    for name in names:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail(f"CI has to have {names[0]}: .ci/run installs it")
    pytest.skip(f"no {names[0]} on PATH; install it (apt-get install {package})")
