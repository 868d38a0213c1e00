"""How the tests are shared out among worker processes; `tests/conftest.py` calls it.

Tests of one group run in one worker, one after another (pytest-xdist, `--dist loadgroup`). Whole
systems make as many groups as may run at once, and come first; of the others each file is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

WORKERS = 4
"""Most tests wait rather than compute: with two a core, two cores are about busy."""

LANES = 3
"""Whole systems under way at once: each is some six processes, and waits for the product's own
times. More would starve each other."""

SYSTEMS = ("tests/flow/", "tests/lab/bench/test_bench.py")
"""Where tests run whole systems."""


def runs_a_system(nodeid: str) -> bool:
    """Whether a test runs a whole system."""
    return nodeid.startswith(SYSTEMS)


def turn_of(nodeid: str, *, left_out: bool) -> int:
    """Say when a test comes, by sorting: systems first, as they take longest.

    Those that this run leaves out come after the others: they would be dealt to a lane in the place
    of one that takes its time.
    """
    if not runs_a_system(nodeid):
        return 2
    return 1 if left_out else 0


def workers_for(named: list[str]) -> int:
    """Say how many workers share the tests that a command line names; none if it names files."""
    return (
        0 if named and all(Path(each.partition("::")[0]).is_file() for each in named) else WORKERS
    )


def groups_of(nodeids: Sequence[str]) -> Iterator[str]:
    """Yield the group of each test, in their order: systems in turn, the others by file."""
    lanes = cycle(range(LANES))
    for nodeid in nodeids:
        yield f"system {next(lanes)}" if runs_a_system(nodeid) else nodeid.partition("::")[0]
