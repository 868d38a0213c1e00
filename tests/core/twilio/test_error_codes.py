"""Twilio's codes: the table, and finding a code in what an error text relays."""

from __future__ import annotations

import pytest

from service.core.twilio.error_codes import MEANINGS, OPTED_OUT, explain


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(
            "400: no; providerMessage: code 21610; requestId: 12345", 21610, id="request id after"
        ),
        pytest.param("8 attempts, the last: 400: x; providerMessage: 21211", 21211, id="last"),
        pytest.param("400: order 21610 failed", None, id="not from Twilio"),
        pytest.param("400: x; providerMessage: no idea; requestId: 21610", None, id="only an id"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_dead_letters_error_is_explained_by_what_twilio_said(
    error: str, code: int | None
) -> None:
    """The operator reads advice that belongs to another failure, or none."""
    found = explain(error)
    assert (found[0] if found else None) == code


def test_a_code_nobody_has_described_is_still_shown() -> None:
    """A new code of Twilio's vanishes from the list."""
    assert explain("400: x; providerMessage: code: 29999") == (29999, None)


def test_every_code_says_what_it_means_and_what_to_do() -> None:
    """An empty or multi-line advice breaks the table of `parley dead list`."""
    assert OPTED_OUT in MEANINGS
    for code, meaning in MEANINGS.items():
        for phrase in (meaning.means, meaning.advice):
            assert phrase, code
            assert "\n" not in phrase, code
            assert not phrase.endswith("."), code
