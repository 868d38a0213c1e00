"""What a run's moments are made into: percentiles, broken promises, the table."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from service.lab.bench.figures import Arrival, Counted, Kind, Marker, Run, Sent, Usage
from service.lab.bench.report import as_json, as_table, judge, percentile, spread, summarize

# kind, conversation, number, written, answered, status
SentRow = tuple[Kind, int, int, float, float, int]


def sent(*rows: SentRow) -> list[Sent]:
    """Make callbacks, each due when it was written."""
    return [
        Sent(kind, Marker("a", conversation, number), written, written, answered, status)
        for kind, conversation, number, written, answered, status in rows
    ]


def arrivals(*rows: tuple[int, int, float]) -> list[Arrival]:
    """Make replies: conversation, number, moment."""
    return [
        Arrival(Marker("a", conversation, number), moment) for conversation, number, moment in rows
    ]


def make_run(**changes: object) -> Run:
    """Two messages of a conversation, both replied to, with all that can be measured."""
    values: dict[str, object] = {
        "rate": 200,
        "sent": sent(("new", 0, 0, 10.0, 10.002, 200), ("new", 0, 1, 11.0, 11.004, 200)),
        "arrivals": arrivals((0, 0, 10.01), (0, 1, 11.03)),
        "connector_here": True,
        "window_s": 2.0,
        "usage": [Usage("parley serve", 2, 0.004, 120.0, 80.0)],
        "counted": Counted(10, 3, 1, {"evalsha": 5, "xread": 1}),
        "notes": (),
    }
    return Run(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([7.0], 0.999, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.5, 50.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 0.999, 100.0),
        ([float(n) for n in range(1, 1001)], 0.999, 999.0),
        ([float(n) for n in range(1, 1001)], 1.0, 1000.0),
    ],
    ids=["one", "one-p999", "two", "three", "p50", "p99", "p999-of-100", "p999-of-1000", "max"],
)
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], share: float, expected: float
) -> None:
    """Otherwise the tail that users feel is reported shorter than it is."""
    assert percentile(values, share) == expected


def test_a_spread_sorts_and_there_is_none_of_nothing() -> None:
    """Otherwise a run in which nothing was answered ends in a traceback."""
    found = spread([3.0, 1.0, 2.0])

    assert found is not None
    assert (found.p50, found.longest) == (2.0, 3.0)
    assert spread([]) is None


ONE = ("new", 0, 0, 1.0, 1.1, 200)
TWO = ("new", 0, 1, 2.0, 2.1, 200)
OVERLAPPING = ("new", 0, 1, 1.05, 1.2, 200)
OTHER = ("new", 1, 1, 2.0, 2.1, 200)
AGAIN = ("duplicate", 0, 0, 3.0, 3.1, 200)
FORGED = ("forged", 0, 9, 1.0, 1.1, 403)


@pytest.mark.parametrize(
    ("callbacks", "replies", "broken"),
    [
        ([ONE, TWO], [(0, 0, 3.0), (0, 1, 4.0)], {}),
        ([ONE, TWO, AGAIN, FORGED], [(0, 0, 3.0), (0, 1, 4.0)], {}),
        ([ONE, TWO], [(0, 0, 3.0)], {"lost": 1}),
        ([ONE, TWO], [(0, 0, 3.0), (0, 1, 4.0), (0, 0, 5.0)], {"doubled": 1}),
        ([ONE, AGAIN], [(0, 0, 3.0), (0, 0, 4.0), (0, 0, 5.0)], {"doubled": 2}),
        ([ONE, TWO], [(0, 1, 3.0), (0, 0, 4.0)], {"out_of_order": 1}),
        ([ONE, OVERLAPPING], [(0, 1, 3.0), (0, 0, 4.0)], {}),
        ([ONE, OTHER], [(1, 1, 3.0), (0, 0, 4.0)], {}),
        ([("new", 0, 0, 1.0, 1.1, 503), TWO], [(0, 1, 3.0)], {}),
        ([("new", 0, 0, 1.0, 1.1, 503), TWO], [(0, 1, 3.0), (0, 0, 4.0)], {}),
        ([("new", 0, 0, 1.0, 1.1, 503), AGAIN], [], {"lost": 1}),
        ([ONE, ("forged", 0, 9, 1.0, 1.1, 200)], [(0, 0, 3.0)], {"forged": 1}),
        ([ONE, FORGED], [(0, 0, 3.0), (0, 9, 4.0)], {"forged": 1}),
        ([ONE, ("duplicate", 0, 0, 3, 3.1, 409)], [(0, 0, 3.0)], {"duplicates_refused": 1}),
    ],
    ids=[
        "kept",
        "duplicates-and-forgeries-are-no-messages",
        "lost",
        "doubled",
        "a-duplicate-answered-again-is-doubled",
        "out-of-order",
        "under-way-at-once-either-may-be-first",
        "conversations-have-no-order-between-them",
        "refused-is-not-lost",
        "refused-and-replied-to-is-allowed",
        "accepted-the-second-time-counts",
        "forged-accepted",
        "forged-refused-and-replied-to",
        "duplicate-refused",
    ],
)
def test_broken_promises_are_counted(
    callbacks: list[SentRow], replies: list[tuple[int, int, float]], broken: dict[str, int]
) -> None:
    """Otherwise a lost text passes for a good run, or a good run for a lost text."""
    promises = judge(sent(*callbacks), arrivals(*replies))

    kept = dict.fromkeys(("lost", "doubled", "out_of_order", "forged", "duplicates_refused"), 0)
    assert {name: getattr(promises, name) for name in kept} == kept | broken
    assert promises.kept == (not broken)


def test_replies_that_nobody_looked_at_are_not_called_good() -> None:
    """A run without the connector's log must not say that nothing was lost."""
    summary = summarize(make_run(arrivals=None))

    assert summary.promises.lost is None
    assert "not looked at" in shown(summary)


def test_figures_are_rates_per_second_and_per_message() -> None:
    """These are the figures people compare; a unit too many makes them lies."""
    summary = summarize(make_run())

    assert summary.accepted == 2
    assert summary.accepted_rate == pytest.approx(2 / 1.004)
    assert summary.handled_rate == pytest.approx(2 / 1.03)
    assert summary.acknowledged is not None
    assert summary.acknowledged.p50 == pytest.approx(2.0)
    assert summary.acknowledged.p99 == pytest.approx(4.0)
    assert summary.to_connector is not None
    assert summary.to_connector.p50 == pytest.approx(10.0)
    assert summary.to_connector.p99 == pytest.approx(30.0)
    assert summary.cpu_s == {"parley serve": pytest.approx(2.0)}
    assert summary.trips_per_message == 2.0
    assert summary.script_calls_per_message == 5.0


def test_a_connector_elsewhere_has_another_clock() -> None:
    """Otherwise the difference of two machines' clocks is reported as a latency."""
    summary = summarize(make_run(connector_here=False))

    assert summary.to_connector is None
    assert summary.handled_rate is None
    assert summary.promises.lost == 0


def test_nothing_accepted_is_reported_without_a_division() -> None:
    """A deployment that refuses everything is a result, not a traceback."""
    summary = summarize(make_run(sent=sent(("new", 0, 0, 1.0, 1.1, 503)), arrivals=[]))

    assert summary.accepted == 0
    assert summary.answers == {"new": {"503": 1}}
    assert "not measured" in shown(summary)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            make_run(sent=[Sent("new", Marker("a", 0, 0), 1.0, 1.02, 1.03, 200)], arrivals=[]),
            "wrote 20 ms late",
        ),
        (make_run(usage=[Usage("connector (sandbox)", 1, 1.9)]), "may be the bottleneck"),
        (make_run(usage=[Usage("load generator", 1, 1.9)]), "may be the bottleneck"),
    ],
    ids=["late", "sandbox-busy", "generator-busy"],
)
def test_what_spoils_a_measurement_is_said(run: Run, words: str) -> None:
    """Otherwise the bench's own limits are taken for the product's."""
    assert any(words in note for note in summarize(run).notes)


def test_a_busy_service_is_no_reason_for_doubt() -> None:
    """It is what the bench is there to find out."""
    assert not summarize(make_run(usage=[Usage("parley serve", 1, 1.99)])).notes


def test_json_and_table_show_the_same_run() -> None:
    """Scripts and people decide by the same figures."""
    summary = summarize(make_run())
    values = json.loads(json.dumps(as_json(summary)))
    text = shown(summary)

    assert values["kept"] is True
    assert values["acknowledged"]["p99"] == pytest.approx(4.0)
    assert values["usage"][0]["idle_pss_mb"] == 80.0
    assert "2.0 / 4.0 / 4.0 ms" in text
    assert "60.0 / 40.0 MiB, each of 2" in text


def shown(summary: object) -> str:
    """Return the table as text."""
    console = Console(width=100, record=True, quiet=False)
    with console.capture() as capture:
        console.print(as_table(summary))  # type: ignore[arg-type]
    return capture.get()
