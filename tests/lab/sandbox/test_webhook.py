"""Connection overrides in a callback URL."""

from __future__ import annotations

import pytest

from service.lab.sandbox.webhook import POLICIES, read_overrides


@pytest.mark.parametrize(
    ("fragment", "retries", "policies"),
    [
        ("", 1, {"ct"}),
        ("rc=0", 0, {"ct"}),
        ("rc=5&rp=all", 5, POLICIES),
        ("rc=6", 1, {"ct"}),
        ("rc=-1", 1, {"ct"}),
        ("rc=two", 1, {"ct"}),
        ("rc=2&rp=4xx,5xx", 2, {"4xx", "5xx"}),
        ("rp=rt,ct,unheard", 1, {"rt", "ct"}),
        ("section-2", 1, {"ct"}),
        ("ct=2000&rc=3", 3, {"ct"}),
    ],
)
def test_overrides_are_read_as_twilio_does(
    fragment: str, retries: int, policies: set[str] | frozenset[str]
) -> None:
    """The overrides we register would do something else in production."""
    overrides = read_overrides(fragment)

    assert (overrides.retries, overrides.policies) == (retries, policies)
