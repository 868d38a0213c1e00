"""Works out what a run shows, and shows it: as values, as JSON, as a table. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from service.lab.bench.figures import Arrival, Counted, Run, Sent, Usage

LATE_MS = 5.0
"""A load generator that is later than this at the 99th percentile did not send what was asked."""

BUSY_SHARE = 0.8
"""A process that uses this much of a core may be what was measured."""

SERVED = "parley serve"
"""The processes that were measured, by the name they have in `Summary.usage`."""

ON_SIDE_NAMES = ("connector (sandbox)", "load generator")
"""Processes that are no part of the deployment."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles, in milliseconds."""

    p50: float
    p99: float
    p999: float
    longest: float


@dataclass(frozen=True, slots=True)
class Promises:
    """How often a promise was broken; the replies' are None when they could not be looked at.

    lost: accepted and never replied to. doubled: replies beyond the first. out_of_order: replies
    that arrived after that of a later message of their conversation. forged: callbacks with a
    false signature that were not refused. duplicates_refused: answered with 4xx.
    """

    lost: int | None
    doubled: int | None
    out_of_order: int | None
    forged: int
    duplicates_refused: int

    @property
    def kept(self) -> bool:
        """Whether none was broken, as far as could be seen."""
        return not any(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures. Rates are per second, None where nothing was measured.

    answers: by kind of callback, how often each status was the answer; "none": no answer.
    late: how much later than due the generator wrote. handled_rate: replies a second until the
    last. cpu_s: by process, per 1,000 accepted messages.
    """

    rate: float
    accepted: int
    window_s: float
    accepted_rate: float | None
    answers: Mapping[str, Mapping[str, int]]
    acknowledged: Spread | None
    late: Spread | None
    to_connector: Spread | None
    handled_rate: float | None
    promises: Promises
    cpu_s: Mapping[str, float]
    usage: Sequence[Usage]
    trips_per_message: float | None
    script_calls_per_message: float | None
    commands_per_message: Mapping[str, float]
    notes: Sequence[str]


def summarize(run: Run) -> Summary:
    """Work out the figures of a run."""
    genuine = [each for each in run.sent if each.kind != "forged"]
    accepted = _first_accepted(genuine)
    written = _first_written(genuine)
    began = min((each.written for each in run.sent), default=0.0)
    ended = max(accepted.values(), default=began)
    per_thousand = 1000 / len(accepted) if accepted else 0.0
    arrived = _first_arrivals(run.arrivals or ())
    ours = {number: moment for number, moment in arrived.items() if number in written}
    crossing = (
        [(moment - written[number]) * 1000 for number, moment in ours.items()]
        if run.connector_here
        else []
    )
    late = [(each.written - each.due) * 1000 for each in run.sent] if run.rate else []
    return Summary(
        rate=run.rate,
        accepted=len(accepted),
        window_s=run.window_s,
        accepted_rate=_rate(len(accepted), ended - began),
        answers=_answers(run.sent),
        acknowledged=spread(
            [(each.answered - each.written) * 1000 for each in genuine if each.status == 200]
        ),
        late=spread(late),
        to_connector=spread(crossing),
        handled_rate=_rate(len(ours), max(ours.values()) - began)
        if ours and run.connector_here
        else None,
        promises=judge(run.sent, run.arrivals),
        cpu_s={each.name: each.cpu_s * per_thousand for each in run.usage},
        usage=run.usage,
        trips_per_message=_trips(run.counted, len(accepted)),
        script_calls_per_message=(
            run.counted.script_calls / len(accepted) if run.counted and accepted else None
        ),
        commands_per_message=(
            {name: count / len(accepted) for name, count in run.counted.commands.items()}
            if run.counted and accepted
            else {}
        ),
        notes=(*run.notes, *_doubts(run, spread(late))),
    )


def spread(values_ms: Iterable[float]) -> Spread | None:
    """Take the percentiles of some durations; None of none."""
    ordered = sorted(values_ms)
    if not ordered:
        return None
    return Spread(*(percentile(ordered, share) for share in (0.5, 0.99, 0.999, 1.0)))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the least value that `share` of all values do not exceed (nearest rank).

    ordered: ascending, one at least. share: above 0, up to 1.
    """
    # Rounded first: 0.999 * 1000 is a hair above 999 in binary.
    return ordered[max(0, math.ceil(round(share * len(ordered), 6)) - 1)]


def judge(sent: Sequence[Sent], arrivals: Sequence[Arrival] | None) -> Promises:
    """Count broken promises.

    The order is judged between messages of which the second was written after the first had been
    answered 200; of two that were under way at once, the deployment may accept either first. A
    message that was refused or not answered may be replied to or not.
    """
    genuine = [each for each in sent if each.kind != "forged"]
    accepted = _first_accepted(genuine)
    written = _first_written(genuine)
    forged = {each.marker.number: each.status != 403 for each in sent if each.kind == "forged"}
    duplicates = [each.status for each in sent if each.kind == "duplicate"]
    lost = doubled = out_of_order = None
    if arrivals is not None:
        replies = Counter(each.marker.number for each in arrivals)
        forged = {number: wrong or number in replies for number, wrong in forged.items()}
        lost = sum(number not in replies for number in accepted)
        doubled = sum(count - 1 for count in replies.values())
        out_of_order = _out_of_order(arrivals, accepted, written)
    return Promises(
        lost=lost,
        doubled=doubled,
        out_of_order=out_of_order,
        forged=sum(forged.values()),
        duplicates_refused=sum(400 <= status < 500 for status in duplicates),
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain values."""
    return asdict(summary) | {"kept": summary.promises.kept}


def as_table(summary: Summary) -> Table:
    """Lay the summary out for people."""
    table = Table("figure", "value", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    rate = f"{summary.rate:g}/s, open loop" if summary.rate else "flat out, closed loop"
    table.add_row("load", rate)
    table.add_row("callbacks accepted", f"{summary.accepted:,}")
    table.add_row("accepted per second", _number(summary.accepted_rate, "/s", 0))
    for name, kind in (
        ("messages answered", "new"),
        ("duplicates answered", "duplicate"),
        ("bad signatures answered", "forged"),
    ):
        if counts := summary.answers.get(kind):
            text = ", ".join(f"{status}: {count:,}" for status, count in counts.items())
            table.add_row(name, text)
    table.add_section()
    table.add_row("acknowledgement p50 / p99 / p99.9", _milliseconds(summary.acknowledged))
    table.add_row("to the connector p50 / p99 / p99.9", _milliseconds(summary.to_connector))
    table.add_row("replied per second, to the last reply", _number(summary.handled_rate, "/s", 0))
    table.add_section()
    for name, cpu_s in summary.cpu_s.items():
        table.add_row(f"CPU s / 1,000 messages: {name}", f"{cpu_s:.2f}")
    for each in summary.usage:
        if each.idle_rss_mb is not None:
            text = f"{each.idle_rss_mb / each.processes:.1f}"
            if each.idle_pss_mb is not None:
                text += f" / {each.idle_pss_mb / each.processes:.1f}"
            text += " MiB" if each.processes == 1 else f" MiB, each of {each.processes}"
            table.add_row(f"idle RSS / PSS: {each.name}", text)
    trips = _number(summary.trips_per_message, "", 2)
    table.add_row("Redis round trips a message, XREAD incl.", trips)
    calls = _number(summary.script_calls_per_message, "", 2)
    table.add_row("script calls a message, ungrouped", calls)
    table.add_section()
    promises = summary.promises
    for name, broken in (
        ("lost", promises.lost),
        ("doubled", promises.doubled),
        ("out of order", promises.out_of_order),
        ("bad signatures let in", promises.forged),
        ("duplicates refused", promises.duplicates_refused),
    ):
        style = "red" if broken else "green" if broken == 0 else None
        table.add_row(name, "not looked at" if broken is None else f"{broken:,}", style=style)
    return table


def _first_accepted(genuine: Sequence[Sent]) -> dict[int, float]:
    """When each message was first answered 200, by number."""
    moments: dict[int, float] = {}
    for each in genuine:
        if each.status == 200:
            number = each.marker.number
            moments[number] = min(each.answered, moments.get(number, math.inf))
    return moments


def _first_written(genuine: Sequence[Sent]) -> dict[int, float]:
    moments: dict[int, float] = {}
    for each in genuine:
        number = each.marker.number
        moments[number] = min(each.written, moments.get(number, math.inf))
    return moments


def _first_arrivals(arrivals: Sequence[Arrival]) -> dict[int, float]:
    moments: dict[int, float] = {}
    for each in arrivals:
        moments.setdefault(each.marker.number, each.moment)
    return moments


def _out_of_order(
    arrivals: Sequence[Arrival], accepted: Mapping[int, float], written: Mapping[int, float]
) -> int:
    seen: set[int] = set()
    newest: dict[int, float] = {}
    wrong = 0
    for each in arrivals:
        number, conversation = each.marker.number, each.marker.conversation
        if number in seen or number not in accepted:
            continue
        seen.add(number)
        # Some reply that is here already is to a message written after this one was accepted.
        wrong += accepted[number] < newest.get(conversation, -math.inf)
        newest[conversation] = max(written[number], newest.get(conversation, -math.inf))
    return wrong


def _answers(sent: Sequence[Sent]) -> dict[str, dict[str, int]]:
    counts = Counter((each.kind, each.status) for each in sent)
    answers: dict[str, dict[str, int]] = {}
    for (kind, status), count in sorted(counts.items()):
        answers.setdefault(kind, {})[str(status or "none")] = count
    return answers


def _trips(counted: Counted | None, accepted: int) -> float | None:
    if counted is None or counted.reads is None or not accepted:
        return None
    return (counted.script_trips + counted.reads) / accepted


def _doubts(run: Run, late: Spread | None) -> list[str]:
    """Say what makes the figures doubtful."""
    doubts = []
    if late is not None and late.p99 > LATE_MS:
        doubts.append(
            f"the load generator wrote {late.p99:.0f} ms late at the 99th percentile: "
            "the machine is too busy for this rate"
        )
    for each in run.usage:
        if each.name in ON_SIDE_NAMES and each.cpu_s > BUSY_SHARE * run.window_s:
            share = each.cpu_s / run.window_s
            doubts.append(f"the {each.name} used {share:.0%} of a core and may be the bottleneck")
    return doubts


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None


def _number(value: float | None, unit: str, digits: int) -> str:
    return "not measured" if value is None else f"{value:,.{digits}f}{unit}"


def _milliseconds(spread: Spread | None) -> str:
    if spread is None:
        return "not measured"
    return " / ".join(f"{value:.1f}" for value in (spread.p50, spread.p99, spread.p999)) + " ms"
