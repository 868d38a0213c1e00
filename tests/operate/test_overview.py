"""How a deployment stands, put together of checks and figures."""

from __future__ import annotations

from service.core import metrics as m
from service.core.tally import Figures
from service.operate.overview import PartitionLoad, Queue, overview_of
from service.web.internal.app import Check


def test_it_is_ready_when_every_part_is() -> None:
    """The console and /readyz would say different things."""
    well, ill = Check(ok=True), Check(ok=False, detail="opening")
    assert overview_of({"redis": well, "instance": well}, Figures()).ready
    overview = overview_of({"redis": ill, "instance": well}, Figures())
    assert not overview.ready
    assert [(each.name, each.detail) for each in overview.not_ready] == [("redis", "opening")]


def test_what_redis_did_not_tell_is_unknown_and_not_nothing() -> None:
    """An operator would take an outage for a quiet day."""
    figures = Figures(gauges={m.REDIS_UP.name: {"": 0}, m.PROCESSES.name: {"": 2}})
    overview = overview_of({}, figures)
    assert (overview.redis, overview.texts, overview.replies) == (False, None, None)
    assert (overview.dead_letters, overview.loads, overview.processes) == (None, (), 2)


def test_partitions_are_told_by_the_longest_wait() -> None:
    """The one that hangs would stand below fifteen that are busy."""
    figures = Figures(
        gauges={
            m.REDIS_UP.name: {"": 1},
            m.INBOX.name: {"0": 0, "1": 5, "10": 1},
            m.OUTBOX.name: {"0": 0, "1": 0, "10": 2},
            m.INBOX_OLDEST.name: {"0": 0.0, "1": 3.0, "10": 1.0},
            m.OUTBOX_OLDEST.name: {"0": 0.0, "1": 0.0, "10": 60.5},
            m.DEAD_LETTERS.name: {"": 4},
        }
    )
    overview = overview_of({}, figures)
    assert overview.loads == (PartitionLoad(10, 1, 2, 60.5), PartitionLoad(1, 5, 0, 3.0))
    assert (overview.texts, overview.replies) == (Queue(6, 3.0), Queue(2, 60.5))
    assert overview.dead_letters == 4


def test_every_outcome_has_a_count() -> None:
    """A page would fail on a service that has just started."""
    figures = Figures(
        counters={m.TEXTS.name: {"answered": 3}, m.REPLIES.name: {"sent": 2.0}},
        gauges={m.BREAKER.name: {"closed": 0, "open": 2}},
    )
    overview = overview_of({}, figures)
    assert dict(overview.ends) == dict.fromkeys(m.TEXT_OUTCOMES, 0) | {"answered": 3}
    assert dict(overview.sent) == dict.fromkeys(m.REPLY_OUTCOMES, 0) | {"sent": 2}
    assert dict(overview.breakers) == {"open": 2}
