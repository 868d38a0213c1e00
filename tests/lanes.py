"""How the tests are shared out among worker processes; `tests/conftest.py` calls it."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

WORKERS = 4
"""Most tests wait rather than compute: with two a core, two cores are about busy."""

LANES = 2
"""Whole systems under way at once, beside the other tests: each is some six processes, and waits
for the product's own times."""

LANES_ALONE = 3
"""The same when nothing else is left to do."""

SYSTEMS = ("tests/flow/", "tests/bench/test_bench.py")
"""Where tests run whole systems."""


def runs_a_system(nodeid: str) -> bool:
    """Whether a test runs a whole system."""
    return nodeid.startswith(SYSTEMS)


def workers_for(named: list[str]) -> int:
    """Say how many workers share the tests that a command line names; none if it names files."""
    return (
        0 if named and all(Path(each.partition("::")[0]).is_file() for each in named) else WORKERS
    )


class Lanes(LoadFileScheduling):
    """Whole systems go to LANES workers, one by one; the others take the rest, file by file.

    Whoever has nothing of its own left helps, until LANES_ALONE run whole systems.
    """

    def _split_scope(self, nodeid: str) -> str:
        """Name what `nodeid` stays together with: tests of one scope are one worker's."""
        return nodeid if runs_a_system(nodeid) else super()._split_scope(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Keep two tests with a worker: it begins one when it knows the next."""
        if node.shutting_down:
            return
        if self._next_for(node) is None:
            node.shutdown()
        elif self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Hand over what is next for this worker, if there is any."""
        scope = self._next_for(node)
        if scope is not None:
            self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

    def _next_for(self, node: WorkerController) -> str | None:
        """Choose for a worker from what nobody has been given."""
        systems, others = [], []
        for scope in self.workqueue:
            (systems if runs_a_system(scope) else others).append(scope)
        working = [each for each in self.nodes if not each.shutting_down]
        in_lane = node in working[: LANES if others else LANES_ALONE]
        left = systems + others if in_lane else others
        return left[0] if left else None
