"""How the tests are shared out among worker processes; `tests/conftest.py` calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

WORKERS = 4
"""Most tests wait rather than compute: with two a core, two cores are about busy."""

LANES = 2
"""Whole systems under way at once. Each is some six processes, and breaks down if starved."""

SYSTEMS = ("tests/flow/", "tests/bench/test_bench.py")
"""Where tests run whole systems."""


class Lanes(LoadFileScheduling):
    """Gives whole-system runs to LANES workers, one by one, and the rest out file by file."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        self._lanes: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        """Name what `nodeid` stays together with: tests of one scope are one worker's."""
        if not runs_a_system(nodeid):
            return super()._split_scope(nodeid)
        return self._lanes.setdefault(nodeid, f"lane {len(self._lanes) % LANES}")


def runs_a_system(nodeid: str) -> bool:
    """Whether a test runs a whole system."""
    return nodeid.startswith(SYSTEMS)


def workers_for(named: list[str]) -> int:
    """Say how many workers share the tests that a command line names; none for files' own."""
    files = [each for each in named if Path(each.partition("::")[0]).is_file()]
    return 0 if named and files == named else WORKERS
