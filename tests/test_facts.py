"""Every documented fact about Twilio and Open Connectors has a test that is named after it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

FACTS = {
    "twilio": [
        "the signature, and its known answer",
        "which URL is signed",
        "parameters: blank, repeated, unknown; GET and JSON",
        "where the official validator raises or errs",
        "keys: two auth tokens, shared keys",
        "no timestamp: keys of de-duplication",
        "retries and connection overrides",
        "the answer",
        "inbound parameters",
        "status parameters",
        "opt-out",
        "sending limits, segments",
    ],
    "open_connectors": [
        "JSON in, JSON out",
        "authorization for the platform and for an instance",
        "POST /instances",
        "reading and changing an instance; the twins addressed by its token",
        "secrets read back masked",
        "tags in both shapes; HTML is stripped",
        "403 when disabled, 401 when deleted",
        "errors, the instance's header, any hub name",
        "both shapes of a message",
        "the message log, media, ping",
        "who may call: the platform's own events",
        "twiliov2",
        "a search without a match is 404, by name and by tags",
        "partial changes, element numbers, defaults, what answers and headers carry",
        "common resources, and a log that they change",
        "formulas, and which of them an instance's end breaks",
        "docs are Swagger 2.0",
        "polled events, their repetition and their end",
        "two models of a message, two kinds of id",
        "CEQL on the log",
        "limits of size are 429",
    ],
}
"""By whom they are about, in the order of their numbers, from 1."""


def named() -> set[tuple[str, int]]:
    """Find the facts that tests are named after."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for who, number in re.findall(
            r"^(?:async )?def test_(twilio|open_connectors)_fact_(\d\d)_",
            path.read_text(),
            re.MULTILINE,
        ):
            found.add((who, int(number)))
    return found


@pytest.mark.parametrize(
    ("who", "number", "what"),
    [
        pytest.param(who, number, what, id=f"{who} {number}")
        for who, facts in FACTS.items()
        for number, what in enumerate(facts, start=1)
    ],
)
def test_every_fact_has_a_test_of_its_name(who: str, number: int, what: str) -> None:
    """What nobody tests holds by chance."""
    assert (who, number) in named(), f"no test_{who}_fact_{number:02d}_...: {what}"


def test_no_test_is_named_after_a_fact_there_is_none_of() -> None:
    """A number would be mistyped, and another fact look tested."""
    assert named() <= {(who, n) for who, facts in FACTS.items() for n in range(1, len(facts) + 1)}
