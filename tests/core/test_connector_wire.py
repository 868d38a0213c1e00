"""What Open Connectors says, in every form its documentation shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import connector_wire as wire
from service.errors import ConnectorError, ConnectorFailed, ConnectorThrottled

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CONFIG = Path(__file__).parents[2] / "config"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "sid",
                    "token",
                    "tags",
                    "name",
                    "disabled",
                    "messages",
                    "date_sent",
                    "num_media",
                    "message",
                    "providerMessage",
                    "requestId",
                ]
            ),
            inner,
        )
    ),
)


def read_error(status: int, body: Any, **headers: str) -> ConnectorError:
    """Read an error answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.read_error(status, named, raw, NOW)


def body(**changes: Any) -> dict[str, Any]:
    """The body of POST /instances, complete unless changed; None leaves an entry out."""
    configuration = {
        f"messaging.sms.twilio.{name}": value
        for name, value in {
            "protocol": "sms",
            "account": "AC1",
            "sender": "+1",
            "token": "t",
            "callback.url": "https://sms.example.com/callbacks/twilio",
            **changes,
        }.items()
        if value is not None
    }
    return {"element": {"key": "twilio"}, "configuration": configuration, "name": "parley"}


def test_the_shipped_instance_is_what_open_connectors_documents() -> None:
    """The connector would refuse it."""
    assert json.loads((CONFIG / "instance.json").read_text()) == {
        "element": {"key": "twilio"},
        "configuration": {
            "messaging.sms.twilio.protocol": "sms",
            "messaging.sms.twilio.account": "${TWILIO_ACCOUNT_SID}",
            "messaging.sms.twilio.sender": "${TWILIO_SENDER}",
            "messaging.sms.twilio.token": "${TWILIO_AUTH_TOKEN}",
            "messaging.sms.twilio.callback.url": "${CALLBACK_URL}",
        },
        "tags": ["${INSTANCE_TAG}"],
        "name": "${INSTANCE_NAME}",
    }


def test_authorization_is_written_as_documented() -> None:
    """Every request would be a 401."""
    assert wire.authorization("u", "o") == "User u, Organization o"
    assert wire.authorization("u", "o", "t") == "User u, Organization o, Element t"


@pytest.mark.parametrize(
    ("entry", "value", "problem"),
    [
        ("protocol", "", 'messaging.sms.twilio.protocol, "sms"'),
        ("account", None, "messaging.sms.twilio.account (setting TWILIO_ACCOUNT_SID)"),
        ("sender", "  ", "messaging.sms.twilio.sender (setting TWILIO_SENDER)"),
        ("token", "", "messaging.sms.twilio.token (setting TWILIO_AUTH_TOKEN)"),
        ("callback.url", "\n", "messaging.sms.twilio.callback.url (setting PUBLIC_URL)"),
    ],
)
def test_a_missing_entry_is_named_with_its_setting(entry, value, problem) -> None:
    """The operator would have to guess from the connector's error."""
    assert wire.missing_entries(body(**{entry: value})) == [problem]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        pytest.param(body(), 0, id="complete"),
        pytest.param({}, 7, id="empty"),
        pytest.param({"element": "twilio", "configuration": [], "name": 1}, 6, id="other types"),
    ],
)
def test_every_missing_entry_is_named_at_once(wanted: dict[str, Any], count: int) -> None:
    """The operator would mend them one start at a time, or see a crash."""
    assert len(wire.missing_entries(wanted)) == count


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        ("https://www.mycoolapp.com/auth\n", "https://www.mycoolapp.com/auth"),
        ("https://www.mycool\n  app.com/auth", "https://www.mycoolapp.com/auth"),
        ("https://a.example:8443/x#rc=5&rp=all", "https://a.example:8443/x#rc=5&rp=all"),
        ("http://127.0.0.1:8080/callbacks/twilio", "http://127.0.0.1:8080/callbacks/twilio"),
    ],
)
def test_a_copied_callback_url_loses_its_newlines(url: str, cleaned: str) -> None:
    """The documentation's sample, copied as it stands, would register an address that is none."""
    assert wire.clean_callback_url(url) == cleaned


@pytest.mark.parametrize("url", ["", "sms.example.com", "https://", "ftp://a/", "https://[::1/"])
def test_a_callback_url_that_is_none_is_refused(url: str) -> None:
    """Twilio would call nobody, and no text would arrive."""
    with pytest.raises(ValueError, match="URL"):
        wire.clean_callback_url(url)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            {"id": 1234, "name": "Test", "token": "cuED0/D=", "tags": ["a", "b"]},
            wire.InstanceAnswer("1234", "cuED0/D=", "Test", ("a", "b"), disabled=False),
            id="tags as texts",
        ),
        pytest.param(
            {"id": 1, "tags": [{"id": 5, "name": "a"}], "disabled": True},
            wire.InstanceAnswer("1", "", "", ("a",), disabled=True),
            id="tags as objects",
        ),
        pytest.param(
            {"id": 1, "token": "********", "tags": None},
            wire.InstanceAnswer("1", "", "", (), disabled=False),
            id="a masked token is none",
        ),
        pytest.param(
            {"id": 1, "token": "a\r\nHost: b"},
            wire.InstanceAnswer("1", "", "", (), disabled=False),
            id="a token that would break the header is none",
        ),
        pytest.param({}, None, id="nothing in it"),
        pytest.param([], None, id="a list"),
        pytest.param(None, None, id="nothing at all"),
    ],
)
def test_an_instance_is_read_in_every_documented_form(answer, expected) -> None:
    """Provisioning would fail on an answer that is right."""
    assert wire.read_instance(answer) == expected


def test_a_token_is_not_shown_with_its_instance() -> None:
    """A log line of the instance would give the token away."""
    instance = wire.read_instance({"id": 1, "token": "cuED0/D="})

    assert "cuED0" not in repr(instance)


@pytest.mark.parametrize(
    ("answer", "sid"),
    [
        ({"sid": "SM1", "id": 5}, "SM1"),
        ({"id": 5}, "5"),
        ({"sid": ""}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_sid_is_read_under_either_name(answer, sid) -> None:
    """A reply could not be told from another in the connector's log."""
    assert wire.read_sid(answer) == sid


def test_a_row_of_the_log_is_read_as_twilio_writes_it() -> None:
    """A reply in doubt would not be recognised, and sent twice."""
    [row] = wire.read_log(
        [
            {
                "sid": "SM1",
                "from": "+1",
                "to": "+2",
                "body": "",
                "direction": "outbound-api",
                "status": "delivered",
                "date_sent": "Mon, 04 May 2026 12:00:00 +0000",
                "num_media": "2",
            }
        ]
    ) or [None]

    assert row == wire.LoggedMessage("SM1", "+1", "+2", "", "outbound-api", "delivered", NOW, 2)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param("Mon, 04 May 2026 12:00:00 +0000", NOW, id="RFC 2822"),
        pytest.param("Mon, 04 May 2026 14:00:00 +0200", NOW, id="another zone"),
        pytest.param("Mon, 04 May 2026 12:00:00 -0000", NOW, id="no zone said"),
        pytest.param("2026-05-04T12:00:00Z", NOW, id="ISO 8601"),
        pytest.param("2026-05-04T12:00:00", NOW, id="ISO 8601 without a zone"),
        pytest.param("soon", None, id="no date"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="null: still queued"),
    ],
)
def test_dates_are_read_aware(written, read) -> None:
    """A reply in doubt would fall outside the time looked at."""
    [row] = wire.read_log([{"sid": "SM1", "date_sent": written}]) or []

    assert row.date_sent == read
    assert row.date_sent is None or row.date_sent.tzinfo is not None


@pytest.mark.parametrize("answer", [None, {}, "", 0, {"messages": None}])
def test_what_is_no_log_is_not_an_empty_log(answer) -> None:
    """An empty log says: never sent. The reply would go out twice."""
    assert wire.read_log(answer) is None
    assert wire.read_log([]) == []
    assert wire.read_log({"messages": []}) == []


@given(JSON)
def test_no_answer_breaks_a_reader(answer) -> None:
    """One odd answer would stop a worker."""
    wire.read_instance(answer)
    wire.read_instances(answer)
    wire.read_sid(answer)
    wire.read_log(answer)
    wire.read_log([answer])
    wire.read_error(400, {}, json.dumps(answer).encode(), NOW)


@given(st.integers(300, 999), st.binary(), st.text())
def test_no_error_answer_breaks_the_reader(status: int, raw: bytes, retry_after: str) -> None:
    """The error of the error would hide what went wrong."""
    error = wire.read_error(status, {"retry-after": retry_after}, raw, NOW)

    assert error.status == status
    assert error.message
    assert error.retry_after_s is None or error.retry_after_s >= 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("1.5", 1.5),
        ("Mon, 04 May 2026 12:00:30 GMT", 30),
        ("Mon, 04 May 2026 11:00:00 GMT", 0),
        ("-5", None),
        ("later", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds) -> None:
    """A throttled sender would come back too early, or never."""
    error = read_error(429, {}, retry_after=header)

    assert type(error) is ConnectorThrottled
    assert error.retry_after_s == seconds


def test_everything_an_error_says_is_read() -> None:
    """The operator could not tell Twilio's refusal from the connector's."""
    error = read_error(
        500, {"requestId": "r1", "message": "Provider error", "providerMessage": "Twilio: 21610"}
    )

    assert type(error) is ConnectorFailed
    assert str(error) == "500: Provider error; providerMessage: Twilio: 21610; requestId: r1"


def test_an_error_quotes_no_page_and_no_secret() -> None:
    """A gateway's page or the connector's complaint may repeat our own request."""
    page = wire.read_error(502, {"content-type": "text/html; x=y"}, b"<p>hush</p>", NOW, ["hush"])
    complaint = wire.read_error(400, {}, b'{"message": "bad token hush"}', NOW, ["hush", ""])

    assert str(page) == "502: Bad Gateway (text/html, not the JSON of Open Connectors)"
    assert str(complaint) == "400: bad token ********"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('{"code": 21610, "message": "unsubscribed", "status": 400}', 21610),
        ({"code": 21211, "message": "The 'To' number 72975 is not valid"}, 21211),
        ("The 'From' number 72975 is not valid (error code: 21212)", 21212),
        ("72975 refused, see https://www.twilio.com/docs/errors/21610", 21610),
        ("HTTP 400 error: 21614 is not a mobile number", 21614),
        ("Attempt to send to +14155550123", None),
        ("request 1234567 at 12:30", None),
        ("", None),
    ],
)
def test_twilios_own_code_is_found(said, code) -> None:
    """An opted-out number would be tried again and again."""
    assert wire.twilio_code(read_error(400, {"providerMessage": said})) == code
