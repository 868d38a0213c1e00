"""Stored times that can't be: Redis's clock was set, or a server with another took over."""

from __future__ import annotations

import time

import pytest

from service.workers.clock import LONG_AGO_S, due_by, happened_by


@pytest.mark.parametrize(
    ("in_s", "due_in_s"),
    [
        pytest.param(-9.0, -9.0, id="past"),
        pytest.param(20.0, 20.0, id="as it was put off"),
        pytest.param(7_200.0, 60.0, id="further ahead than any wait"),
    ],
)
def test_nothing_is_due_later_than_the_longest_wait(in_s: float, due_in_s: float) -> None:
    """A jump of Redis's clock would make a retry wait for ever."""
    now = time.monotonic()
    assert due_by(now + in_s, 60_000) - now == pytest.approx(due_in_s, abs=0.5)


@pytest.mark.parametrize(
    ("in_s", "earliest_s", "latest_s"),
    [
        pytest.param(-9.0, -9.0, -9.0, id="past"),
        pytest.param(3.0, 0.0, 0.0, id="another node's clock"),
        pytest.param(600.0, -LONG_AGO_S, 0.0, id="a clock that was put back"),
    ],
)
def test_what_happened_in_the_future_may_have_happened_long_ago(
    in_s: float, earliest_s: float, latest_s: float
) -> None:
    """A reply in doubt would be looked for where it can't be, and sent a second time."""
    now = time.monotonic()
    earliest, latest = happened_by(now + in_s)
    assert earliest - now == pytest.approx(earliest_s, abs=0.5)
    assert latest - now == pytest.approx(latest_s, abs=0.5)
