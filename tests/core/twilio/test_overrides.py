"""Connection overrides in the registered callback URL."""

from __future__ import annotations

import pytest

from service.core.open_connectors.wire import clean_callback_url
from service.core.twilio.overrides import with_overrides
from service.core.twilio.signature import Verifier

URL = "https://sms.example.com/callbacks/twilio"


@pytest.mark.parametrize(
    ("retries", "policy", "registered"),
    [
        pytest.param(5, "all", f"{URL}#rc=5&rp=all", id="everything"),
        pytest.param(1, "5xx,ct", f"{URL}#rc=1&rp=5xx,ct", id="some"),
        pytest.param(0, "all", URL, id="none"),
    ],
)
def test_the_registered_url_says_how_often_twilio_repeats(
    retries: int, policy: str, registered: str
) -> None:
    """Twilio gives up after one failed connection, and a text is lost."""
    assert with_overrides(URL, retries, policy) == registered
    assert clean_callback_url(registered) == registered


def test_overrides_are_no_part_of_what_is_signed() -> None:
    """Every callback is refused as soon as overrides are registered."""
    plain, registered = (
        Verifier(url, ["token"]).address for url in (URL, with_overrides(URL, 5, "all"))
    )
    assert plain == registered
