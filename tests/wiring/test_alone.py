"""A process that is started anew in place, where nobody else would do it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from service.errors import StoreUnavailable
from service.wiring.alone import run_alone


@pytest.fixture
def internal() -> Iterator[socket.socket]:
    """Where the process listens for probes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


class Failing:
    """A process that fails, at first; what it leaves running hangs or not."""

    def __init__(self, starts: list[float], *, hangs: bool) -> None:
        self._starts = starts
        self._leaves_hanging = hangs
        self.stopping = self.hangs = False

    async def run(self, *_: object, **__: object) -> int:
        """Fail at the first start, and end well at the second."""
        self._starts.append(time.monotonic())
        self.hangs = self._leaves_hanging
        if len(self._starts) == 1:
            raise StoreUnavailable("Redis is away")
        return 0


@pytest.mark.parametrize("hangs", [False, True], ids=["all of it ended", "a handler hangs"])
def test_a_process_is_started_anew_in_place_only_when_all_of_it_has_ended(
    internal: socket.socket, hangs: bool
) -> None:
    """A message whose handler hangs begins a second time beside it, and is answered twice."""
    starts: list[float] = []

    def make(let_go: Callable[[], None]) -> Failing:
        return Failing(starts, hangs=hangs)

    with capture_logs() as lines:
        ended = run_alone(make, None, internal, stop_with_stdin=False, again=True)  # type: ignore[arg-type]
    assert ended == ((1, True) if hangs else (0, False))
    assert len(starts) == (1 if hangs else 2)
    last = "Parley failed" if hangs else "Parley failed and is started anew"
    assert [line["event"] for line in lines] == [last]
