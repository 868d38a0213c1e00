"""The callbacks a run sends, judged by Twilio's own library."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from urllib.parse import parse_qsl

import pytest
from twilio.request_validator import RequestValidator

from service.cli.bench_runs import callback_url
from service.lab.bench.figures import Marker
from service.lab.bench.plan import Callback, Target, make_plan, poisson

TARGET = Target("https://sms.example.com/callbacks/twilio", "12345", "AC1", "+15005550100")


def plan(messages: int = 500, conversations: int = 7, **shares: float) -> list[Callback]:
    """Make a plan with its dice fixed."""
    given = {"duplicates": 0.02, "forged": 0.02} | shares
    return make_plan(
        TARGET,
        "beef",
        messages=messages,
        conversations=conversations,
        duplicates=given["duplicates"],
        forged=given["forged"],
        dice=random.Random(1),
    )


def test_twilios_own_library_agrees_with_every_signature() -> None:
    """Otherwise the bench measures how fast callbacks are refused."""
    judge = RequestValidator(TARGET.token)
    for callback in plan():
        form = dict(parse_qsl(callback.body.decode(), keep_blank_values=True))
        genuine = judge.validate(TARGET.url, form, callback.headers["X-Twilio-Signature"])
        assert genuine == (callback.kind != "forged")


def test_a_plan_holds_as_many_of_each_kind_as_asked() -> None:
    """A share of nothing but good callbacks shows nothing about the others."""
    assert Counter(each.kind for each in plan()) == {"new": 500, "duplicate": 10, "forged": 10}
    few = Counter(each.kind for each in plan(messages=3))
    assert few == {"new": 3, "duplicate": 1, "forged": 1}
    assert {each.kind for each in plan(duplicates=0, forged=0)} == {"new"}


def test_a_duplicate_repeats_an_earlier_message_to_the_byte() -> None:
    """Twilio's retries do; anything else would be another message."""
    firsts: dict[int, Callback] = {}
    for callback in plan():
        if callback.kind == "new":
            firsts[callback.marker.number] = callback
        elif callback.kind == "duplicate":
            first = firsts[callback.marker.number]
            assert (callback.body, callback.headers) == (first.body, first.headers)


def test_messages_are_spread_over_the_conversations_in_order() -> None:
    """One crowded conversation is handled one at a time, and would set the pace of all."""
    firsts = [each for each in plan() if each.kind == "new"]
    senders = Counter(dict(parse_qsl(each.body.decode()))["From"] for each in firsts)

    assert [each.marker.number for each in firsts] == list(range(500))
    assert len(senders) == 7
    assert max(senders.values()) - min(senders.values()) <= 1


def test_every_message_has_a_sid_of_its_own() -> None:
    """Otherwise the service drops it as a duplicate, rightly."""
    found = [
        dict(parse_qsl(e.body.decode()))["MessageSid"] for e in plan() if e.kind != "duplicate"
    ]

    assert len(set(found)) == len(found)
    assert all(len(sid) == 34 for sid in found)


def test_a_marker_is_found_in_whatever_a_handler_says_around_it() -> None:
    """The example handlers answer without the "echo"; others may greet first."""
    marker = Marker("beef", 12, 345)

    assert Marker.find(f"Hello! You said: echo {marker}. Bye") == marker
    assert Marker.find("I know no order A-1.") is None


def test_poisson_arrivals_come_at_the_rate_and_unevenly() -> None:
    """Evenly spaced callbacks never queue, and hide what queueing costs."""
    moments = poisson(20_000, 200, random.Random(1))
    gaps = [b - a for a, b in pairwise(moments)]

    assert moments[-1] == pytest.approx(100, rel=0.03)
    assert sum(gap < 0.0025 for gap in gaps) / len(gaps) == pytest.approx(0.393, abs=0.02)


@pytest.mark.parametrize(
    "given", ["https://sms.example.com", "https://sms.example.com/", TARGET.url], ids=str
)
def test_a_public_address_is_completed_to_the_callback_url(given: str) -> None:
    """People know PUBLIC_URL; the path behind it is ours."""
    assert callback_url(given) == TARGET.url
