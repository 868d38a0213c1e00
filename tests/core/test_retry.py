from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.retry import Schedule

SCHEDULE = Schedule(first_ms=1_000, longest_ms=60_000, attempts=5)
CHANCES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "chance", "wait_ms"),
    [
        pytest.param(1, 0.0, 100, id="the shortest first wait"),
        pytest.param(1, 0.5, 550, id="a middling one"),
        pytest.param(2, 0.5, 1_100, id="doubled"),
        pytest.param(3, 0.5, 2_200, id="doubled again"),
        pytest.param(7, 0.5, 33_000, id="bounded"),
        pytest.param(10_000, 0.0, 6_000, id="bounded, and still spread out"),
    ],
)
def test_waits_double_up_to_a_bound(attempt: int, chance: float, wait_ms: int) -> None:
    """An ailing connector is hammered, or a reply waits for days."""
    assert SCHEDULE.wait_ms(attempt, chance) == wait_ms


@given(st.integers(1, 1_000_000), st.integers(1, 1_000_000), st.integers(1, 10**9), CHANCES)
def test_no_wait_is_longer_than_the_bound_or_shorter_than_a_tenth(
    first_ms: int, attempt: int, longest_ms: int, chance: float
) -> None:
    """After many failures the wait overflows, or becomes none."""
    schedule = Schedule(first_ms, longest_ms, 3)
    bound = min(longest_ms, first_ms * 2 ** min(attempt - 1, 64))
    assert int(bound / 10) <= schedule.wait_ms(attempt, chance) <= bound


@given(st.integers(1, 100), CHANCES)
def test_a_later_attempt_never_waits_less_for_the_same_chance(attempt: int, chance: float) -> None:
    """Backoff that backs up."""
    assert SCHEDULE.wait_ms(attempt + 1, chance) >= SCHEDULE.wait_ms(attempt, chance)
