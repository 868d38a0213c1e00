"""Growing pauses between starts."""

from __future__ import annotations

from service.core.pauses import Pauses


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_good_run() -> None:
    """A part that keeps failing would keep the machine busy, or one that failed once stay away."""
    pauses = Pauses(first_s=0.25, longest_s=1, healthy_s=60)
    assert [pauses.after(0.1) for _ in range(4)] == [0.25, 0.5, 1, 1]
    assert pauses.in_a_row == 4
    assert pauses.after(60) == 0
    assert pauses.in_a_row == 1
    assert [pauses.after(59) for _ in range(2)] == [0.25, 0.5]
    assert pauses.in_a_row == 3
