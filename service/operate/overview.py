"""How a deployment stands, in one look: what is ready, what runs, what waits, what has happened.

Made of the checks that /readyz answers and the figures that /metrics shows, so that the three never
say different things. Pure; the console shows it, and `parley ready` prints the checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from service.core import metrics as m
from service.core.tally import Figures, Labelled


class Checked(Protocol):
    """What was found of one part of the service, as /readyz tells it."""

    @property
    def ok(self) -> bool:
        """Whether it can do its work."""

    @property
    def detail(self) -> str:
        """One sentence for people, or nothing."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One part of the service. name: as /readyz has it. detail: one sentence, or nothing."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits in all inboxes, or in all outboxes.

    count: entries. oldest_s: age of the one that has waited longest, seconds; 0 when none waits.
    """

    count: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class PartitionLoad:
    """What waits in one partition: texts not settled, replies not sent, and the longest wait."""

    partition: int
    texts: int
    replies: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    """How a deployment stands.

    parts: in the order of /readyz. redis: whether Redis told its figures just now; without them
        `texts`, `replies` and `dead_letters` are None and `loads` is empty.
    loads: those in which something waits, the longest wait first.
    processes, wanted: those that were heard of lately, and those there should be.
    owned: partitions that this service's processes hold.
    ends, sent: texts and replies by what became of them since the start, all outcomes named.
    breakers: working processes by the state of their breaker, states that none has left out.
    postponed, recovered, failures: replies put off, texts read back, handlers' failed attempts.
    """

    parts: tuple[Standing, ...]
    redis: bool
    texts: Queue | None
    replies: Queue | None
    dead_letters: int | None
    loads: tuple[PartitionLoad, ...]
    processes: int
    wanted: int
    owned: int
    ends: Mapping[str, int]
    sent: Mapping[str, int]
    breakers: Mapping[str, int]
    postponed: int
    recovered: int
    failures: int

    @property
    def ready(self) -> bool:
        """Whether every part can do its work."""
        return all(part.ok for part in self.parts)

    @property
    def set_up(self) -> bool:
        """Whether there are the credentials that texts are taken and answered with."""
        return all(part.ok for part in self.parts if part.name == "setup")

    @property
    def not_ready(self) -> tuple[Standing, ...]:
        """Those parts that can't."""
        return tuple(part for part in self.parts if not part.ok)


def overview_of(checks: Mapping[str, Checked], figures: Figures) -> Overview:
    """Put together what the checks and the figures say."""
    gauges, counters = figures.gauges, figures.counters
    redis = bool(_whole(gauges, m.REDIS_UP.name))
    inbox, outbox = gauges.get(m.INBOX.name, {}), gauges.get(m.OUTBOX.name, {})
    in_s, out_s = gauges.get(m.INBOX_OLDEST.name, {}), gauges.get(m.OUTBOX_OLDEST.name, {})
    breakers = gauges.get(m.BREAKER.name, {})
    return Overview(
        parts=tuple(Standing(name, each.ok, each.detail) for name, each in checks.items()),
        redis=redis,
        texts=_queue(inbox, in_s) if redis else None,
        replies=_queue(outbox, out_s) if redis else None,
        dead_letters=_whole(gauges, m.DEAD_LETTERS.name) if redis else None,
        loads=_loads(inbox, outbox, in_s, out_s) if redis else (),
        processes=_whole(gauges, m.PROCESSES.name),
        wanted=_whole(gauges, m.PROCESSES_WANTED.name),
        owned=_whole(gauges, m.PARTITIONS_OWNED.name),
        ends=_by_outcome(counters, m.TEXTS.name, m.TEXT_OUTCOMES),
        sent=_by_outcome(counters, m.REPLIES.name, m.REPLY_OUTCOMES),
        breakers={state: int(breakers[state]) for state in m.BREAKER_STATES if breakers.get(state)},
        postponed=_whole(counters, m.POSTPONED.name),
        recovered=_whole(counters, m.RECOVERED.name),
        failures=_whole(counters, m.HANDLER_FAILURES.name),
    )


def _whole(values: Mapping[str, Labelled], name: str) -> int:
    return int(sum(values.get(name, {}).values()))


def _by_outcome(
    values: Mapping[str, Labelled], name: str, outcomes: Iterable[str]
) -> Mapping[str, int]:
    found = values.get(name, {})
    return {outcome: int(found.get(outcome, 0)) for outcome in outcomes}


def _queue(count: Labelled, oldest_s: Labelled) -> Queue:
    return Queue(int(sum(count.values())), max(oldest_s.values(), default=0.0))


def _loads(
    inbox: Labelled, outbox: Labelled, in_s: Labelled, out_s: Labelled
) -> tuple[PartitionLoad, ...]:
    loads = (
        PartitionLoad(
            int(partition),
            int(inbox.get(partition, 0)),
            int(outbox.get(partition, 0)),
            max(in_s.get(partition, 0.0), out_s.get(partition, 0.0)),
        )
        for partition in inbox.keys() | outbox.keys()
    )
    waiting = (load for load in loads if load.texts or load.replies)
    return tuple(sorted(waiting, key=lambda load: (-load.oldest_s, load.partition)))
