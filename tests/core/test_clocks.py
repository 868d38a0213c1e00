"""What is known of another clock, from the times it told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.clocks import RemoteClock

AHEAD_S = 1_800_000_000.25
"""The other clock's time when ours is 0."""


def told(clock: RemoteClock, asked: float, took_s: float, ahead_s: float = AHEAD_S) -> None:
    """Ask for a Date, which has whole seconds and is written somewhere in between."""
    clock.told(float(int(asked + took_s / 2 + ahead_s)), asked, asked + took_s, 1.0)


def test_nothing_is_known_before_it_has_told_anything() -> None:
    """Times would be corrected by a guess."""
    assert RemoteClock().passed_by(5.0, 5.0) is None
    assert RemoteClock().lowest is None


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0.001, 15)), min_size=1, max_size=30))
def test_the_truth_lies_between_the_bounds_and_they_only_come_closer(
    answers: list[tuple[float, float]],
) -> None:
    """A Date is up to a second old, and the answer may take as long as it likes."""
    clock, at, width = RemoteClock(), 100.0, float("inf")
    for pause_s, took_s in answers:
        told(clock, at, took_s)
        at += took_s + pause_s
        assert clock.lowest is not None
        assert clock.highest is not None
        assert clock.lowest - 1e-3 <= AHEAD_S <= clock.highest + 1e-3
        # Nothing but the drift of clocks moves them apart again.
        assert clock.highest - clock.lowest <= width + 0.04
        width = clock.highest - clock.lowest


@pytest.mark.parametrize("moved_s", [-7_200.0, -90.0, 90.0, 7_200.0])
def test_a_clock_that_was_set_is_believed_at_once(moved_s: float) -> None:
    """Its old time would count for as long as the process lives."""
    clock = RemoteClock()
    for asked in range(0, 100, 10):
        told(clock, asked, 0.1)
    told(clock, 100, 0.1, AHEAD_S + moved_s)
    ahead = clock.passed_by(AHEAD_S + 200, 200)
    assert ahead == pytest.approx(-moved_s, abs=1.2)
