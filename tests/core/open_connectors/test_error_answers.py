"""What an error of the connector means, and what of it is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.open_connectors.echoes import Private
from service.core.open_connectors.error_answers import read_error
from service.errors import (
    ConnectorDisabled,
    ConnectorError,
    ConnectorFailed,
    ConnectorGone,
    ConnectorOverLimit,
    ConnectorRefused,
    ConnectorThrottled,
    ConnectorUnauthorized,
)
from tests.core.open_connectors.test_wire import JSON

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def error(
    status: int = 400,
    body: Any = None,
    private: Private | None = None,
    **headers: str,
) -> ConnectorError:
    """Read an error answer with a JSON body."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(status, names, raw, NOW, private or Private())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ConnectorFailed),
        (400, ConnectorRefused),
        (401, ConnectorUnauthorized),
        (403, ConnectorDisabled),
        (404, ConnectorGone),
        (405, ConnectorRefused),
        (406, ConnectorRefused),
        (408, ConnectorFailed),
        (409, ConnectorRefused),
        (413, ConnectorRefused),
        (415, ConnectorRefused),
        (429, ConnectorThrottled),
        (500, ConnectorFailed),
        (502, ConnectorFailed),
        (503, ConnectorFailed),
        (599, ConnectorFailed),
    ],
)
def test_each_status_becomes_the_error_of_its_kind(status: int, kind: type[ConnectorError]) -> None:
    """A reply is given up that could still go out, or repeated although it may be out."""
    found = error(status, {"message": "no"})
    assert type(found) is kind
    assert found.status == status


@pytest.mark.parametrize(
    ("said", "headers", "kind"),
    [
        pytest.param("Request size limit exceeded", {}, ConnectorOverLimit, id="size"),
        pytest.param("The payload is too large", {}, ConnectorOverLimit, id="payload"),
        pytest.param("Body exceeds 5 MB", {}, ConnectorOverLimit, id="megabytes"),
        pytest.param("Request timed out", {}, ConnectorOverLimit, id="time"),
        pytest.param("Execution time limit reached", {}, ConnectorOverLimit, id="time limit"),
        pytest.param("Rate limit exceeded", {}, ConnectorThrottled, id="rate"),
        pytest.param("Too many requests of this size", {}, ConnectorThrottled, id="rate, by size"),
        pytest.param("no", {}, ConnectorThrottled, id="it does not say"),
        pytest.param("size", {"retry_after": "3"}, ConnectorThrottled, id="it says until when"),
        pytest.param("size, code 20429", {}, ConnectorThrottled, id="Twilio's word for rate"),
    ],
)
def test_open_connectors_fact_21_a_429_for_the_request_itself_is_told_from_one_for_the_rate(
    said: str, headers: dict[str, Any], kind: type[ConnectorError]
) -> None:
    """A reply that is too large would be sent for ever, or one of many be given up."""
    assert type(error(429, {"message": "no", "providerMessage": said}, **headers)) is kind


def test_an_error_carries_all_that_the_connector_says() -> None:
    """The operator has nothing to quote to the connector's support."""
    found = error(
        400,
        {"requestId": "r-1", "message": "Bad request", "providerMessage": "code 21610"},
        retry_after="3",
    )
    assert str(found) == "400: Bad request; providerMessage: code 21610; requestId: r-1"
    assert found.retry_after_s == 3


@pytest.mark.parametrize(
    ("body", "headers", "shown"),
    [
        pytest.param({"message": "x"}, {}, "400: x", id="a message alone"),
        pytest.param(
            {"message": "x"},
            {"elements_request_id": "r"},
            "400: x; requestId: r",
            id="id in header",
        ),
        pytest.param(
            {"message": "x", "providerMessage": {"code": 21610, "text": "Grüße"}},
            {},
            '400: x; providerMessage: {"code": 21610, "text": "Grüße"}',
            id="a provider message that is an object",
        ),
        pytest.param(
            b"<html>our secret request</html>",
            {"content_type": "text/html; charset=utf-8"},
            "400: Bad Request (text/html, not the JSON of Open Connectors)",
            id="a page of a gateway is not quoted",
        ),
        pytest.param(
            b"",
            {},
            "400: Bad Request (no content type, not the JSON of Open Connectors)",
            id="none",
        ),
        pytest.param(
            b"\xff\xfe\x00",
            {},
            "400: Bad Request (no content type, not the JSON of Open Connectors)",
            id="no text at all",
        ),
        pytest.param(
            b"[" * 100_000,
            {},
            "400: Bad Request (no content type, not the JSON of Open Connectors)",
            id="JSON without a bottom",
        ),
        pytest.param(
            ["x"],
            {"content_type": "application/json"},
            "400: Bad Request (application/json, not the JSON of Open Connectors)",
            id="another JSON",
        ),
    ],
)
def test_an_error_can_be_read_whatever_its_body(
    body: Any, headers: dict[str, Any], shown: str
) -> None:
    """A maintenance page of a gateway in between stops the sender, or fills the log."""
    assert str(error(400, body, **headers)) == shown


def test_an_unknown_status_is_an_error_like_others() -> None:
    """A status of a gateway's own ends in a traceback."""
    assert str(error(520, b"")).startswith("520: unknown status")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param(" 0 ", 0.0, id="none"),
        pytest.param("1.5", 1.5, id="a fraction"),
        pytest.param("Mon, 04 May 2026 12:00:30 GMT", 30.0, id="a date"),
        pytest.param("Mon, 04 May 2026 11:00:00 GMT", 0.0, id="a date that is past"),
        pytest.param("9" * 400, 3_600.0, id="longer than anybody waits"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 3_600.0, id="a date gone wrong"),
        pytest.param("-5", None, id="negative"),
        pytest.param("nan", None, id="no number"),
        pytest.param("soon", None, id="words"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after_is_understood_in_both_forms(header: str, seconds: float | None) -> None:
    """A throttled connector is asked again at once, or never."""
    assert error(429, {}, retry_after=header).retry_after_s == seconds


def test_without_retry_after_there_is_no_wish() -> None:
    """Every error would wait as if the connector had asked for it."""
    assert error(429, {}).retry_after_s is None


def test_secrets_and_numbers_quoted_by_the_connector_are_masked() -> None:
    """An error in the log holds the instance token or a customer's number."""
    found = error(
        400,
        {
            "message": "Element tok-long, User tok: no such number +14155550100.",
            "providerMessage": "The number whatsapp:+12125550123 with tok is invalid",
        },
        private=Private(("tok", "tok-long", "")),
    )
    assert str(found) == (
        "400: Element ********, User ********: no such number +1•••0100.; "
        "providerMessage: The number whatsapp:+1•••0123 with ******** is invalid"
    )


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param("Attempt to send to unsubscribed recipient 21610", 21610, id="at the end"),
        pytest.param('{"code": 21610, "status": 400}', 21610, id="JSON"),
        pytest.param("https://www.twilio.com/docs/errors/21610", 21610, id="a link"),
        pytest.param("[HTTP 400] Unable to create record 21211", 21211, id="beside a status"),
        pytest.param("To 72975: 21211", 21211, id="a short code, and a code we know"),
        pytest.param("To 72975 failed, code: 21211", 21211, id="a short code before it"),
        pytest.param("+14155521610 is no number", None, id="a phone number"),
        pytest.param("ticket 1234567", None, id="a longer number"),
        pytest.param("order 12-21610-3", None, id="part of something else"),
        pytest.param("no", None, id="no code"),
        pytest.param(None, None, id="nothing said"),
    ],
)
def test_the_code_of_twilio_is_found_in_what_it_said(said: str | None, code: int | None) -> None:
    """An opt-out (21610) is not recognised."""
    assert error(400, {"message": "no", "providerMessage": said}).code == code


TOKEN, TEXT, THEIRS = "cuED0/Dezal+zK2OtO=", "My PIN is 471108, Grüße", "+14155550123"
PRIVATE = Private([TOKEN], [TEXT, "4711"], [THEIRS])
ECHO = {
    "sent": [{"to": "4155550123", TOKEN: {"text": TEXT}}, THEIRS, json.dumps({"a": [TOKEN, TEXT]})]
}


@pytest.mark.parametrize("field", ["message", "providerMessage", "requestId"])
@pytest.mark.parametrize(
    "echo",
    [ECHO, [ECHO], json.dumps(ECHO), json.dumps(json.dumps(ECHO)), TOKEN, TEXT, THEIRS],
    ids=["object", "list", "JSON", "JSON in JSON", "token", "text", "number"],
)
def test_nothing_of_a_request_is_repeated_in_whatever_field_it_stands(
    field: str, echo: Any
) -> None:
    """The log, a dead letter and the console show our token, and what was written to whom."""
    found = error(400, {field: echo}, PRIVATE)
    told = f"{found} {found.args} {found.provider_message} {found.request_id} {found.code}"
    for private in (TOKEN, "Dezal", TEXT, "471108", "Grüße", "155550123", "5550123"):
        assert private not in told


def test_nothing_of_a_request_is_repeated_from_a_header() -> None:
    """A gateway that repeats what it was sent does so in headers as well."""
    found = error(502, b"", PRIVATE, content_type=f"text/{TOKEN}", elements_request_id=THEIRS)
    assert str(found) == "502: Bad Gateway (an odd content type, not the JSON of Open Connectors)"
    found = error(
        502, b"", PRIVATE, content_type="text/html", elements_request_id="a b\x1b" + "c" * 99
    )
    assert found.request_id == ("ab" + "c" * 99)[:64]


def test_digits_of_a_text_are_no_code_of_twilio() -> None:
    """A one-time code would be logged as Twilio's error, and decide what becomes of the reply."""
    said = "The message 'Your code: 21610' was refused"
    assert error(400, {"providerMessage": said}, Private(texts=["Your code: 21610"])).code is None
    assert (
        error(
            400, {"providerMessage": f"{said}, code 30003"}, Private(texts=["Your code: 21610"])
        ).code
        == 30003
    )


@given(JSON, st.integers(100, 599), st.text(max_size=40))
def test_no_error_of_the_connector_ends_in_another_error(
    answer: Any, status: int, header: str
) -> None:
    """An answer nobody has foreseen stops the sender with a TypeError."""
    found = error(status, answer, PRIVATE, retry_after=header)
    assert found.status == status
    assert found.code is None or found.provider_message
    assert found.advice
