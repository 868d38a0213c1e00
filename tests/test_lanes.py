"""How the suite shares itself out, seen in a small suite that is laid out like it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest

from tests.lanes import LANES, WORKERS, groups_of, turn_of, workers_for

ROOT = Path(__file__).parents[1]

NOTED = """
import os, pathlib, time
import pytest

def note(what):
    with open({notes!r}, "a") as notes:
        notes.write(f"{{what}} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")

@pytest.mark.parametrize("number", range({count}))
def test_noted(number):
    note("+{kind}")
    time.sleep(0.1)
    note("-{kind}")
"""


def test_few_systems_run_at_once_and_files_stay_together(tmp_path: Path) -> None:
    """Systems that starve each other fail at random, and what files share is made anew."""
    notes = tmp_path / "notes"
    layout = {"flow/test_a": 6, "flow/test_b": 1, "test_c": 5, "test_d": 5, "test_e": 1}
    for name, count in layout.items():
        file = tmp_path / "tests" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = "system" if name.startswith("flow") else name
        file.write_text(NOTED.format(notes=str(notes), count=count, kind=kind))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.conftest"]\n')
    command = [sys.executable, "-m", "pytest", "--import-mode=importlib"]
    ran = subprocess.run(
        [*command, "--numprocesses=auto", "--dist=loadgroup", "--no-loadscope-reorder", "tests"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = [line.split() for line in notes.read_text().splitlines()]
    assert len(said) == 2 * sum(layout.values())
    steps = {"+system": 1, "-system": -1}
    at_once = list(accumulate(steps.get(what, 0) for what, _ in said))
    assert 1 < max(at_once) <= LANES
    for name in ("test_c", "test_d", "test_e"):
        assert len({worker for what, worker in said if what.endswith(name)}) == 1


def test_systems_are_dealt_out_in_turn() -> None:
    """One lane would have all the slow ones of a file."""
    found = groups_of(["tests/flow/a.py::b", "tests/c.py::d", *["tests/flow/a.py::e"] * LANES])
    lanes = [f"system {lane}" for lane in range(LANES)]
    assert list(found) == [lanes[0], "tests/c.py", *lanes[1:], lanes[0]]


def test_what_is_left_out_takes_no_lanes_turn() -> None:
    """One lane would have little to do, and the others take twice as long."""
    left_out = {f"tests/flow/a.py::left_out_{number}" for number in range(5)}
    nodeids = ["tests/core/b.py::c", *sorted(left_out)]
    for number in range(2 * LANES):
        nodeids.insert(2 * number, f"tests/flow/a.py::runs_{number}")
    nodeids.sort(key=lambda nodeid: turn_of(nodeid, left_out=nodeid in left_out))
    dealt = dict(zip(nodeids, groups_of(nodeids), strict=True))
    runs = Counter(group for nodeid, group in dealt.items() if "runs_" in nodeid)
    assert runs == {f"system {lane}": 2 for lane in range(LANES)}
    assert nodeids[-1] == "tests/core/b.py::c"


@pytest.mark.parametrize(
    ("named", "workers"),
    [
        ([], WORKERS),
        (["tests/store"], WORKERS),
        (["tests/test_lanes.py"], 0),
        (["tests/test_lanes.py::test_something"], 0),
        (["tests/test_lanes.py", "tests/store"], WORKERS),
    ],
)
def test_single_files_run_in_the_process_that_was_started(named: list[str], workers: int) -> None:
    """Whoever mends one test would wait for four processes, and see nothing of its output."""
    assert workers_for([str(ROOT / each) for each in named]) == workers
