from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.host.seldom import TokenBucket


def test_one_turn_a_second_is_given_and_the_others_are_counted() -> None:
    """The log shows one line a second and how many it stands for."""
    bucket = TokenBucket(per_s=1, burst=1)
    turns = [bucket.take(now_s) for now_s in (100.0, 100.1, 100.9, 101.2, 101.3, 150.0, 150.1)]
    assert turns == [0, None, None, 2, None, 1, None]


def test_a_quiet_time_saves_up_no_more_than_the_burst() -> None:
    """After a quiet night a flood must not be logged line by line."""
    bucket = TokenBucket(per_s=10, burst=3)
    assert [bucket.take(1000.0) for _ in range(5)] == [0, 0, 0, None, None]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.integers(1, 5))
def test_no_more_is_given_than_the_rate_allows(gaps: list[float], burst: int) -> None:
    """Whatever the rhythm of an attack, the work it causes is bounded, and none goes uncounted."""
    bucket = TokenBucket(per_s=1, burst=burst)
    now_s, given_turns, told = 50.0, 0, 0
    for gap in gaps:
        now_s += gap
        held_back = bucket.take(now_s)
        if held_back is not None:
            given_turns += 1
            told += held_back
    assert given_turns <= burst + sum(gaps) + 1e-6
    assert given_turns + told + bucket.suppressed == len(gaps)
