"""What a run leaves behind: when each callback was sent and answered, when each reply arrived.

Moments are seconds on the machine's monotonic clock, which all of its processes share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["new", "duplicate", "forged"]
"""A message sent for the first time, sent again, or with a signature that is not Twilio's."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Names a message within a run; its text carries it and so does the reply.

    number: the message's place among all of the run, from 0.
    """

    run: str
    conversation: int
    number: int

    def __str__(self) -> str:
        return f"bench-{self.run}-{self.conversation}-{self.number}"

    @classmethod
    def find(cls, text: str) -> Marker | None:
        """Find the marker in a reply's text; None where there is none."""
        found = _MARKER.search(text)
        return cls(found[1], int(found[2]), int(found[3])) if found else None


_MARKER = re.compile(r"bench-([0-9a-f]+)-([0-9]+)-([0-9]+)")


@dataclass(frozen=True, slots=True)
class Sent:
    """One callback that was sent.

    due: when it should have been written; written: when it was; answered: when its answer was
    there. status: the answer's, 0 without one.
    """

    kind: Kind
    marker: Marker
    due: float
    written: float
    answered: float
    status: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One reply that reached the connector; a list of them is in order of arrival."""

    marker: Marker
    moment: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process, or several of one kind, cost in the measured window.

    cpu_s: user and system. idle_rss_mb, idle_pss_mb: resident memory before the load, in MiB, the
    shared pages whole and divided among those who share them; the sum over `processes` of them;
    None where it can't be read.
    """

    name: str
    processes: int
    cpu_s: float
    idle_rss_mb: float | None = None
    idle_pss_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """Round trips to Redis in the measured window, as the service's processes counted them.

    script_calls: calls of scripts; script_trips: pipelines they left in. reads: XREAD calls, each
    a round trip; None where the server's own statistics could not be read. commands: what clients
    sent by the server's `INFO commandstats`, by name; the commands within scripts are left out.
    """

    script_calls: int
    script_trips: int
    reads: int | None
    commands: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Run:
    """All that was seen of a run.

    arrivals: None when nobody could be asked. connector_here: it shares our clock.
    window_s: from the first callback to the last reply, or to giving up.
    """

    rate: float
    sent: Sequence[Sent]
    arrivals: Sequence[Arrival] | None
    connector_here: bool
    window_s: float
    usage: Sequence[Usage]
    counted: Counted | None
    notes: Sequence[str]
