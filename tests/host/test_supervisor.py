"""The supervisor of several processes, with processes that end at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from service.errors import OPERATOR_MUST_MEND
from service.host.notify import Systemd
from service.host.supervisor import RESTART_FIRST_S, Supervisor

TOO_LONG = "x" * 4_000_000
"""An argument that no Linux starts a process with: an OSError, as for want of memory or files."""


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the signal handlers back that a supervisor takes."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_process_that_can_not_be_started_is_tried_again_after_growing_pauses() -> None:
    """The supervisor would end, and the processes that answer texts with it."""
    asked = []

    def own_arguments(number: int) -> list[str]:
        asked.append(time.monotonic())
        # A wrong option, in the end: the process says that its operator must mend it.
        return [TOO_LONG if len(asked) < 3 else "--nonsense"]

    told, up_fd = os.pipe()
    os.set_blocking(told, False)
    supervisor = Supervisor(
        1,
        ["serve"],
        os.environ,
        [],
        own_arguments=own_arguments,
        stop_s=1,
        told=told,
        starter=Systemd(""),
    )
    with capture_logs() as log:
        assert supervisor.run() == OPERATOR_MUST_MEND
    os.close(told)
    os.close(up_fd)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == [
        pytest.approx(RESTART_FIRST_S, abs=0.3),
        pytest.approx(2 * RESTART_FIRST_S, abs=0.3),
    ]
    assert [each["event"] for each in log] == ["a process can't be started"] * 2
