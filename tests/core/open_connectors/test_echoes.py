"""What a connector's error repeats of us reaches nobody."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.masking import MASK
from service.core.open_connectors.echoes import (
    LONGEST_ID,
    LONGEST_READ,
    LONGEST_TOLD,
    Private,
    mask_echoes,
    mask_secrets,
    read_content_type,
    read_id,
)

SECRET = "cuED0/Dezal<hh>zK2OtO6kMP7NvPn'MyNcRDZc="
TEXT = 'Dear Ada, your "code" is 4711 \\ 0815; don\'t tell.\nYours, Grüße 😊'
THEIRS, OURS = "+14155550123", "+15005550100"
PRIVATE = Private([SECRET, "tok"], [TEXT, "no", "12345"], [THEIRS, OURS, "72975"])

WAYS = [
    pytest.param(lambda text: text, id="as it is"),
    pytest.param(json.dumps, id="in JSON"),
    pytest.param(lambda text: json.dumps(text, ensure_ascii=False), id="in JSON, as UTF-8"),
    pytest.param(lambda text: json.dumps(json.dumps({"a": text})), id="in JSON in JSON"),
    pytest.param(lambda text: json.dumps(text).replace("/", "\\/"), id="in JSON, slashes escaped"),
    pytest.param(
        lambda text: json.dumps(text).replace("=", "\\u003d").replace("'", "\\u0027"), id="by Java"
    ),
    pytest.param(lambda text: quote(text, safe=""), id="in a URL"),
    pytest.param(html.escape, id="in a page"),
    pytest.param(lambda text: f"{text[:3]}x {text}", id="behind its own beginning"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("private", [SECRET, TEXT], ids=["a secret", "a text"])
def test_what_is_private_is_masked_however_it_is_written(
    way: Callable[..., Any], private: str
) -> None:
    """Whoever reads the log could send in our name, or reads a stranger's letter."""
    shown = mask_echoes(f"no: {way(private)} is refused", PRIVATE)
    assert shown.endswith("is refused")
    for part in (private[8:20], private[-12:-1], "zK2OtO", "Grüße", "4711", "RDZc"):
        assert part not in shown


@pytest.mark.parametrize("secret", ["heron%41%42%43x", "he\\/ron\\/and", "a&amp;b%2541cdef"])
@pytest.mark.parametrize("way", WAYS)
def test_a_secret_with_escapes_of_its_own_is_masked(way: Callable[..., Any], secret: str) -> None:
    """What it is quoted in is opened, and the secret with it: it would be told all the same."""
    shown = mask_echoes(f"no: {way(secret)} is refused", Private((secret,)))
    assert MASK in shown
    opened = unquote(html.unescape(secret))
    assert not any(each in shown for each in (secret, opened, unquote(opened)))


@pytest.mark.parametrize("account", ["", "A", "AC", "ACx", "AC" + "1" * 32])
def test_a_secret_in_basic_credentials_is_masked(account: str) -> None:
    """Twilio's own credentials are the account's sid and token, in base64."""
    encoded = b64encode(f"{account}:{SECRET}".encode()).decode()
    shown = mask_echoes(f"Authorization: Basic {encoded}", PRIVATE)
    assert b64encode(SECRET.encode()).decode()[8:20] not in shown
    for start in range(len(encoded) - 16):
        assert encoded[start : start + 16] not in shown or start < len(account) * 4 // 3


@pytest.mark.parametrize(
    "said",
    [
        "14155550123",
        "4155550123",
        "(415) 555-0123",
        "+1 415 555 0123",
        "+1-415-555-0123",
        "001 415-555-0123",
        "whatsapp:+14155550123",
        "+442071838750",
        "+44 20 7183 8750",
        "212-555-0199",
        "442071838750",
        "72975",
    ],
)
def test_numbers_are_masked_however_they_are_written(said: str) -> None:
    """A customer's number stands in the log."""
    shown = mask_echoes(f"{said} is refused", PRIVATE)
    assert shown.endswith(" is refused")
    assert sum(character.isdigit() for character in shown) <= 5


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        pytest.param("no such number", "******** such number", id="a word of its own"),
        pytest.param("nobody knows 123456", "nobody knows 123456", id="not within others"),
        pytest.param("The code 12345, again", "The code ********, again", id="a code"),
        pytest.param(
            "error 21610 in 2026-11-24", "error 21610 in 2026-11-24", id="nothing private"
        ),
        pytest.param("id 56a1e4b2e4b0a7ce7a5e6f0d", "id 56a1e4b2e4b0a7ce7a5e6f0d", id="an id"),
    ],
)
def test_what_is_short_is_masked_as_a_word(said: str, shown: str) -> None:
    """The error says nothing any more, or a one-time code stands in the log."""
    assert mask_echoes(said, PRIVATE) == shown


def test_a_shortened_text_is_masked() -> None:
    """Errors quote the beginning of a text and three dots."""
    shown = mask_echoes(f"The message '{TEXT[:24]}...' is refused", PRIVATE)
    assert shown == "The message '********...' is refused"


def test_a_secret_cut_by_the_limit_is_not_told_by_its_beginning() -> None:
    """An answer made long enough would show half of a secret, and then the other."""
    for before in range(LONGEST_READ - 60, LONGEST_READ + 1):
        said = TEXT * 300 + " "
        said = said[: before - 1] + " " + SECRET + "x" * 99
        assert SECRET[:6] not in mask_echoes(said, PRIVATE)


def test_what_is_told_has_a_bound() -> None:
    """Megabytes of an error would be kept with each dead letter."""
    assert len(mask_echoes("x " * 1_000_000, PRIVATE)) <= LONGEST_TOLD + 3


@pytest.mark.parametrize(
    ("said", "read"),
    [
        pytest.param("56a1e4b2e4b0a7ce7a5e6f0d", "56a1e4b2e4b0a7ce7a5e6f0d", id="an id"),
        pytest.param(714, "714", id="a number"),
        pytest.param("a\r\nb\x1b[2J {c}", "ab2Jc", id="control characters"),
        pytest.param("x" * 500, "x" * LONGEST_ID, id="too long"),
        pytest.param("tok", None, id="a secret"),
        pytest.param(SECRET, None, id="our token"),
        pytest.param(THEIRS, None, id="a number of somebody's"),
        pytest.param(TEXT, None, id="somebody's text"),
        pytest.param({"a": "tok"}, None, id="an object"),
        pytest.param(["tok"], None, id="a list"),
        pytest.param(True, None, id="a truth"),
        pytest.param(None, None, id="nothing"),
        pytest.param("  ", None, id="blanks"),
    ],
)
def test_a_request_id_has_a_sane_form_or_is_none(said: object, read: str | None) -> None:
    """It is quoted to others: it must be an id, and nothing but one."""
    assert read_id(said, PRIVATE) == read


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("text/html; charset=utf-8", "text/html"),
        ("", "no content type"),
        ("text/tok", "an odd content type"),
        (f"text/html {THEIRS}", "an odd content type"),
        ("x" * 200 + "/y", "an odd content type"),
    ],
)
def test_a_content_type_is_told_if_it_is_one(said: str, read: str) -> None:
    """A header may repeat what a body may."""
    assert read_content_type(said, PRIVATE) == read


@given(st.text(max_size=200), st.lists(st.text(max_size=20)), st.lists(st.text(max_size=20)))
def test_nothing_said_ends_in_an_error(
    said: str, secrets: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    """An odd error would stop the sender."""
    shown = mask_echoes(said, Private(secrets, texts, texts))
    for secret in secrets:
        assert len(secret) < 2 or secret not in shown or set(secret) <= set("*•.")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_shown_to_who_asked_has_no_secret_and_all_the_rest(way: Callable[..., Any]) -> None:
    """The instance's token would stand on the screen of whoever asked for the log."""
    said = {"rows": [{way(f"x {SECRET}"): 1}, way(SECRET), THEIRS, TEXT * 200, None, 5]}
    shown = mask_secrets(said, [SECRET])

    for part in ("cuED0", "zK2OtO", "RDZc"):
        assert part not in json.dumps(shown, ensure_ascii=False)
    assert shown["rows"][2:] == [THEIRS, TEXT * 200, None, 5]
    assert mask_secrets(way(SECRET), []) == way(SECRET)
