"""How pages write times, numbers and reasons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.web.console.wording import ago, exactly, json_lines, lasting, number, part, pieces

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *((0, "just now"), (4.9, "just now"), (-4.9, "just now"), (5, "5 s ago")),
        *((59, "59 s ago"), (60, "1 min ago"), (3599, "59 min ago"), (3600, "1 h ago")),
        *((86_399, "23 h ago"), (86_400, "1 d ago"), (-90, "in 1 min"), (-7200, "in 2 h")),
    ],
)
def test_a_time_is_told_by_how_long_ago_it_was(seconds: float, written: str) -> None:
    """The operator would subtract times of another zone."""
    assert ago(NOW - timedelta(seconds=seconds), NOW) == written


def test_the_exact_time_is_in_utc() -> None:
    """It could not be compared with the log."""
    assert exactly(datetime.fromisoformat("2026-03-01T13:00:00+01:00")) == "2026-03-01 12:00:00 UTC"


def test_numbers_have_their_thousands_apart() -> None:
    """1000000 and 100000 look alike."""
    assert [number(value) for value in (0, 999, 1000, 1_234_567.9)] == [
        *("0", "999", "1,000", "1,234,567")
    ]
    assert lasting(0.9) == "0 s"


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("run `parley console` again", ["Run ", "parley console", " again."]),
        ("is that so?", ["Is that so?"]),
        ("\x1b[2J", ["\\x1b[2J."]),
        ("", [""]),
    ],
)
def test_a_reason_is_a_sentence(reason: str, written: list[str]) -> None:
    """Errors, which are parts of a line in a log, would look like a defect of the page."""
    assert pieces(reason) == written


def test_parts_have_names_for_people() -> None:
    """A task's name begins small."""
    assert [part(name) for name in ("redis", "the door", "")] == ["Redis", "The door", ""]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('  "sid": "SM1",', ("  ", '"sid"', ': "SM1",')),
        ('"a \\" b": {', ("", '"a \\" b"', ": {")),
        ('    "only a text: of a list",', ("", "", '    "only a text: of a list",')),
        ("}", ("", "", "}")),
        ('  "k\u202e": "\x1b"', ("  ", '"k\\u202e"', ': "\\x1b"')),
    ],
)
def test_the_keys_of_json_are_told_from_the_rest(line: str, parts: tuple[str, str, str]) -> None:
    """The eye would have nothing to hold on to, or a text obey what is in it."""
    assert list(json_lines(f"{{\n{line}")) == [("", "", "{"), parts]
