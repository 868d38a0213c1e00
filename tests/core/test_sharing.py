from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from service.core.sharing import share_of

WORKERS = st.lists(st.text(min_size=1), min_size=1, max_size=40)


@given(WORKERS, st.integers(1, 1_024))
def test_shares_add_up_and_differ_by_at_most_one(living: list[str], partitions: int) -> None:
    """A partition nobody owns is never handled; an uneven share wastes workers."""
    shares = [share_of(worker, living, partitions) for worker in set(living)]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1


@given(WORKERS, st.integers(1, 1_024), st.randoms(use_true_random=False))
def test_every_worker_comes_to_the_same_result(
    living: list[str], partitions: int, dice: Random
) -> None:
    """Two workers that read the register in another order fight for a partition."""
    shuffled = [*living, living[0]]
    dice.shuffle(shuffled)
    for worker in living:
        assert share_of(worker, shuffled, partitions) == share_of(worker, living, partitions)


@given(WORKERS, st.text(min_size=1), st.integers(1, 1_024))
def test_a_worker_the_register_has_lost_counts_itself(
    living: list[str], lost: str, partitions: int
) -> None:
    """A worker whose heartbeat was late would crash instead of carrying on."""
    assert share_of(lost, living, partitions) == share_of(lost, [*living, lost], partitions)


def test_a_worker_alone_owns_everything() -> None:
    """A single process would leave conversations unhandled."""
    assert share_of("a", [], 16) == 16
    assert share_of("a", ["a"], 16) == 16


def test_more_workers_than_partitions_leave_some_idle() -> None:
    """Workers beyond the number of partitions would push others out in turn."""
    living = ["a", "b", "c"]
    assert [share_of(worker, living, 2) for worker in living] == [1, 1, 0]
