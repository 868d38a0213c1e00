"""What of an address or a secret may be read in a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.masking import mask_login, mask_number


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        pytest.param("+14155550100", "+1•••0100", id="a number keeps its last four digits"),
        pytest.param("whatsapp:+14155550100", "whatsapp:+1•••0100", id="a channel stays readable"),
        pytest.param("14155550100", "•••0100", id="a number without its plus"),
        pytest.param("72975", "•••", id="a short code is hidden whole"),
        pytest.param("+1234", "•••", id="so is a fragment of a number"),
        pytest.param("ACME", "•••", id="so is a sender's name"),
        pytest.param("rcs:acme_bank_agent", "rcs:•••gent", id="an opaque channel address"),
        pytest.param("", "", id="nothing stays nothing"),
    ],
)
def test_an_address_is_shortened_to_what_a_log_may_hold(address: str, shown: str) -> None:
    """Otherwise logs hold customers' phone numbers, or nothing an operator can search by."""
    assert mask_number(address) == shown


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_at_most_five_digits_of_any_number_are_readable(number: str) -> None:
    """Otherwise a number of some length somewhere in the world can be dialled from our logs."""
    readable = [character for character in mask_number(number) if character.isdigit()]

    assert len(readable) <= 5
    assert number not in mask_number(number)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://sms.example.com/cb#rc=5", "https://sms.example.com/cb#rc=5"),
        ("https://user:heron@sms.example.com:8443/cb", "https://********@sms.example.com:8443/cb"),
        ("https://heron@sms.example.com", "https://********@sms.example.com"),
        ("https://u:he@ron@sms.example.com", "https://********@sms.example.com"),
        ("https://u:he/r#o?n@sms.example.com", "https://********@sms.example.com"),
        ("no address", "no address"),
    ],
)
def test_who_logs_in_and_how_is_hidden_in_an_address(url: str, shown: str) -> None:
    """The proxy's password would be in every log line that names the registered URL."""
    assert mask_login(url) == shown
