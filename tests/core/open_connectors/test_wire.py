"""What we send to Open Connectors and what its answers mean."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.open_connectors import wire
from service.core.open_connectors.wire import InstanceAnswer, LoggedMessage
from service.errors import (
    ConnectorUnreadable,
)
from service.model import Media

CONFIG = Path(__file__).parents[3] / "config"
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
TOKEN = "cuED0/DezalhhzK2OtO6kMP7NvPnMyNcRDZc="
ANSWER: dict[str, Any] = {
    "id": 1234,
    "name": "Test",
    "token": TOKEN,
    "element": {"id": 7, "name": "Twilio SMS", "key": "twilio"},
    "provisionInteractions": [],
    "valid": True,
    "disabled": False,
    "tags": ["parley"],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text()
            | st.sampled_from(
                ["id", "sid", "token", "tags", "name", "message", "messages", "date_sent", "to"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("token", "header"),
    [
        pytest.param(None, "User u, Organization o", id="the platform"),
        pytest.param("t", "User u, Organization o, Element t", id="an instance"),
    ],
)
def test_the_authorization_is_as_documented(token: str | None, header: str) -> None:
    """Every request is answered 401."""
    assert wire.authorization("u", "o", token) == header


def complete() -> dict[str, Any]:
    """Read the body of POST /instances that ships."""
    body: dict[str, Any] = json.loads((CONFIG / "instance.json").read_text(encoding="utf-8"))
    return body


def test_the_instance_body_that_ships_lacks_nothing() -> None:
    """A fresh installation can't provision."""
    assert wire.missing_entries(complete()) == []


def test_open_connectors_fact_18_the_newer_connectors_file_asks_for_polled_events() -> None:
    """No text would ever arrive: it can't tell Twilio of our address."""
    body = json.loads((CONFIG / "instance.twiliov2.json").read_text(encoding="utf-8"))
    assert wire.missing_entries(body) == []
    entries = body["configuration"]
    assert entries["event.vendor.type"] == "polling"
    assert int(entries["event.poller.refresh_interval"]) > 0
    assert entries["event.notification.enabled"] == "true"
    assert entries["event.notification.callback.url"] == "${CALLBACK_URL}"


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("protocol", 'messaging.sms.twilio.protocol, "sms"'),
        ("account", "messaging.sms.twilio.account (setting TWILIO_ACCOUNT_SID)"),
        ("sender", "messaging.sms.twilio.sender (setting TWILIO_SENDER)"),
        ("token", "messaging.sms.twilio.token (setting TWILIO_AUTH_TOKEN)"),
        ("callback.url", "messaging.sms.twilio.callback.url (setting PUBLIC_URL)"),
    ],
    ids=lambda value: value.partition(" ")[0],
)
@pytest.mark.parametrize("value", [None, "", "  ", 0], ids=["null", "empty", "blank", "zero"])
def test_a_required_entry_that_is_missing_is_named_with_its_setting(
    entry: str, named: str, value: Any
) -> None:
    """The operator learns that something is missing, but not what to set."""
    body = complete()
    body["configuration"][f"messaging.sms.twilio.{entry}"] = value
    assert wire.missing_entries(body) == [named]
    del body["configuration"][f"messaging.sms.twilio.{entry}"]
    assert wire.missing_entries(body) == [named]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param({}, 7, id="nothing"),
        pytest.param({"name": "", "element": {}, "configuration": {}}, 7, id="empty parts"),
        pytest.param({"name": "x", "element": "twilio", "configuration": []}, 6, id="other shapes"),
        pytest.param(complete() | {"element": {"key": ""}}, 1, id="no element key"),
        pytest.param(complete() | {"name": None}, 1, id="no name"),
    ],
)
def test_everything_missing_is_named_at_once(body: dict[str, Any], count: int) -> None:
    """The operator mends one entry per start, or sees a traceback for a file of another shape."""
    assert len(wire.missing_entries(body)) == count


@pytest.mark.parametrize(
    ("body", "secrets"),
    [
        ({"configuration": {"messaging.sms.twilio.token": "t", "x": "y"}}, ["t"]),
        ({"configuration": {}}, []),
        ({"configuration": None}, []),
        ({}, []),
    ],
    ids=["the auth token", "none", "null", "nothing"],
)
def test_the_secrets_of_a_body_are_known(body: dict[str, Any], secrets: list[str]) -> None:
    """The Twilio token turns up in an error that quotes the request."""
    assert wire.secrets_of(body) == secrets


@pytest.mark.parametrize(
    ("body", "logins"),
    [
        ({"configuration": {"u": "https://a:heron@b/c", "x": "y"}}, ["a:heron", "heron"]),
        ({"configuration": {"u": "https://heron@b"}}, ["heron"]),
        ({"configuration": {"u": "https://b/c", "n": 1}}, []),
        ({"configuration": None}, []),
    ],
    ids=["password", "user alone", "none", "null"],
)
def test_the_logins_of_a_body_are_known(body: dict[str, Any], logins: list[str]) -> None:
    """The password of a proxy turns up in an error that quotes the request."""
    assert wire.logins_of(body) == logins


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        pytest.param("https://a.example/x?y=1", "https://a.example/x?y=1", id="as it is"),
        pytest.param(
            "https://www.mycoolapp.com/auth\n", "https://www.mycoolapp.com/auth", id="a newline"
        ),
        pytest.param(
            " https://a.example/\r\n\tlong\u00a0er ", "https://a.example/longer", id="all"
        ),
        pytest.param("http://[::1]:8080/x", "http://[::1]:8080/x", id="an IPv6 host"),
    ],
)
def test_blanks_of_copied_documentation_leave_a_callback_url(url: str, cleaned: str) -> None:
    """Twilio calls an address that does not exist."""
    assert wire.clean_callback_url(url) == cleaned


@pytest.mark.parametrize(
    "url",
    ["", "a.example/x", "ftp://a.example", "https://", "https:///x", "https://[::1", "mailto:a@b"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """An instance is registered that never gets a callback."""
    with pytest.raises(ValueError, match=r"."):
        wire.clean_callback_url(url)


def instance(**changes: Any) -> InstanceAnswer:
    """Describe the instance of ANSWER, changed."""
    fields: dict[str, Any] = {
        "id": "1234",
        "token": TOKEN,
        "name": "Test",
        "tags": ("parley",),
        "disabled": False,
        "element": "twilio",
    }
    return InstanceAnswer(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        pytest.param({}, instance(), id="as documented"),
        pytest.param({"tags": [{"id": 1, "name": "parley"}]}, instance(), id="tags as objects"),
        pytest.param(
            {"tags": ["a", {"name": "b"}, {"id": 2}, None, ""]},
            instance(tags=("a", "b")),
            id="tags of every shape",
        ),
        pytest.param({"tags": None}, instance(tags=()), id="tags null"),
        pytest.param({"tags": "parley"}, instance(tags=()), id="tags of an unknown shape"),
        pytest.param({"token": "********"}, instance(token=""), id="a masked token"),
        pytest.param({"token": None}, instance(token=""), id="no token"),
        pytest.param({"token": ""}, instance(token=""), id="an empty token"),
        pytest.param({"token": "a*b"}, instance(token="a*b"), id="a token with a star"),
        pytest.param({"token": "a\r\nX: y"}, instance(token=""), id="a token no header may hold"),
        pytest.param({"disabled": True}, instance(disabled=True), id="disabled"),
        pytest.param({"disabled": "no"}, instance(), id="disabled, of an unknown shape"),
        pytest.param({"id": "abc"}, instance(id="abc"), id="an id that is a text"),
        pytest.param({"id": 0}, instance(id="0"), id="id 0"),
        pytest.param({"name": None}, instance(name=""), id="no name"),
        pytest.param({"element": "twilio"}, instance(element=""), id="element of unknown shape"),
        pytest.param(
            {"configuration": {"a": 1, "b": None, "c": True}},
            instance(configuration={"a": "1", "b": "", "c": "true"}),
            id="a configuration",
        ),
    ],
)
def test_open_connectors_fact_06_an_instance_is_read_in_every_documented_shape(
    changes: dict[str, Any], read: InstanceAnswer
) -> None:
    """Our instance is not recognised and created anew, or its masked token is used."""
    assert wire.read_instance(ANSWER | changes) == read


def test_an_instance_does_not_show_its_token() -> None:
    """The token stands in a log line that names the instance."""
    assert TOKEN not in repr(wire.read_instance(ANSWER))


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"id": None}, {"message": "no"}])
def test_an_answer_that_describes_no_instance_is_none(answer: Any) -> None:
    """An error page is stored as our instance."""
    assert wire.read_instance(answer) is None
    assert wire.read_instances(answer) == []


def test_a_list_of_instances_passes_over_what_is_none() -> None:
    """One odd row hides our own instance, and a second one is created."""
    assert wire.read_instances([{}, ANSWER, None]) == [instance()]


@pytest.mark.parametrize(
    ("answer", "sid"),
    [
        pytest.param({"sid": "SM1"}, "SM1", id="sid of twiliov2"),
        pytest.param({"id": "SM1"}, "SM1", id="id of the older hub model"),
        pytest.param({"id": 7, "sid": "SM1"}, "SM1", id="both"),
        pytest.param({"sid": None, "id": 7}, "7", id="a number"),
        pytest.param({"status": "queued"}, None, id="neither"),
        pytest.param({"sid": ""}, None, id="empty"),
        pytest.param({"id": 714}, "714", id="a number of the platform's own"),
        pytest.param({"id": 0}, "0", id="number 0"),
        pytest.param({"sid": {"x": 1}, "id": True}, None, id="no id at all"),
        pytest.param({"sid": "a b\n", "id": 7}, "7", id="a text that is no id"),
        pytest.param({"sid": "x" * 65}, None, id="too long for an id"),
        pytest.param([], None, id="a list"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_the_sid_of_a_sent_message_is_read_under_both_names(answer: Any, sid: str | None) -> None:
    """A reply that is out counts as failed, and is sent again."""
    assert wire.read_sid(answer) == sid


ROW: dict[str, Any] = {
    "sid": "SM1",
    "from": "+15005550100",
    "to": "+15005550123",
    "body": "hi",
    "direction": "outbound-api",
    "status": "delivered",
    "date_sent": "Mon, 04 May 2026 12:00:00 +0000",
    "num_media": "0",
}


def logged(**changes: Any) -> LoggedMessage:
    """Describe ROW, changed."""
    fields: dict[str, Any] = {
        "sid": "SM1",
        "from_": "+15005550100",
        "to": "+15005550123",
        "body": "hi",
        "direction": "outbound-api",
        "status": "delivered",
        "date_sent": NOW,
        "num_media": 0,
    }
    return LoggedMessage(**(fields | changes))


@pytest.mark.parametrize(
    ("row", "read"),
    [
        pytest.param(ROW, logged(), id="Twilio's resource"),
        pytest.param(
            {
                "id": "SM1",
                "from": "+15005550100",
                "to": "+15005550123",
                "message": "hi",
                "direction": "outbound-api",
                "status": "delivered",
                "sentTime": "2026-05-04T12:00:00Z",
            },
            logged(),
            id="the older hub model",
        ),
        pytest.param(
            {
                "sid": "SM1",
                "From": "+15005550100",
                "To": "+15005550123",
                "Body": "hi",
                "Direction": "outbound-api",
                "Status": "delivered",
                "DateSent": "2026-05-04T12:00:00Z",
                "NumMedia": 2,
            },
            logged(num_media=2),
            id="names in capitals",
        ),
        pytest.param(
            ROW | {"body": None, "num_media": "1"},
            logged(body="", num_media=1, has_body=False),
            id="a picture alone",
        ),
        pytest.param(
            ROW | {"body": "", "message": "x"}, logged(body=""), id="an empty text is one"
        ),
        pytest.param(ROW | {"id": 714}, logged(other_id="714"), id="a sid and a number"),
        pytest.param(ROW | {"id": "SM1"}, logged(), id="one sid twice"),
        pytest.param(ROW | {"date_sent": None}, logged(date_sent=None), id="queued"),
        pytest.param(ROW | {"num_media": "3"}, logged(num_media=3), id="pictures"),
        pytest.param(ROW | {"num_media": "-1"}, logged(), id="an impossible number of pictures"),
        pytest.param(ROW | {"num_media": "many"}, logged(), id="no number of pictures"),
    ],
)
def test_a_row_of_the_log_is_read_under_every_documented_name(
    row: dict[str, Any], read: LoggedMessage
) -> None:
    """A reply in doubt is not found in the log, and is sent twice."""
    assert wire.read_log([row]) == [read]
    assert wire.read_log({"messages": [row]}) == [read]


@pytest.mark.parametrize(
    ("written", "date"),
    [
        pytest.param("Mon, 04 May 2026 12:00:00 +0000", NOW, id="RFC 2822"),
        pytest.param("Mon, 04 May 2026 14:00:00 +0200", NOW, id="RFC 2822, another zone"),
        pytest.param("Mon, 04 May 2026 12:00:00 GMT", NOW, id="RFC 2822, a named zone"),
        pytest.param("Mon, 04 May 2026 12:00:00 -0000", NOW, id="RFC 2822, an unknown zone"),
        pytest.param("2026-05-04T12:00:00Z", NOW, id="ISO 8601"),
        pytest.param("2026-05-04T12:00:00.000+00:00", NOW, id="ISO 8601 with milliseconds"),
        pytest.param("2026-05-04 12:00:00", NOW, id="ISO 8601 without a zone"),
        pytest.param("soon", None, id="no date"),
        pytest.param("", None, id="empty"),
        pytest.param("Mon, 32 May 2026 12:00:00 +0000", None, id="no such day"),
        pytest.param("Mon, 04 May 2026 12:00:00 +99999999999999", None, id="no such zone"),
    ],
)
def test_dates_are_read_in_both_forms_and_are_aware(written: str, date: datetime | None) -> None:
    """A reply is compared with the wrong hour, or one odd date stops the sender."""
    (row,) = wire.read_log([ROW | {"date_sent": written}])
    assert row.date_sent == date
    assert date is None or (row.date_sent is not None and row.date_sent.tzinfo is not None)


@pytest.mark.parametrize(
    "answer",
    [None, "x", {}, {"message": "no"}, {"messages": None}, ["x"], [ROW, None]],
    ids=["null", "text", "object", "error", "null messages", "a list of texts", "half a log"],
)
def test_what_is_no_log_does_not_look_like_an_empty_one(answer: Any) -> None:
    """A reply in doubt counts as never sent, and is sent twice."""
    with pytest.raises(ConnectorUnreadable):
        wire.read_log(answer)


INBOUND = ROW | {"direction": "inbound", "status": "received"}


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leave fields out of a row."""
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize(
    ("rows", "lacking"),
    [
        pytest.param([{"id": "SM1"}], {"from", "to", "direction", "body"}, id="mapped to an id"),
        pytest.param([ROW, {"id": "SM1"}], {"to", "direction"}, id="one of two"),
        pytest.param([without(ROW, "sid")], {"sid"}, id="no sid"),
        pytest.param([without(ROW, "direction")], {"direction"}, id="no direction"),
        pytest.param([ROW | {"direction": ""}], {"direction"}, id="an empty direction"),
        pytest.param([without(ROW, "to")], {"to"}, id="no recipient"),
        pytest.param([without(INBOUND, "from")], {"from"}, id="a text from nobody"),
        pytest.param([without(ROW, "from")], {"from"}, id="replies without a sender"),
        pytest.param([without(ROW, "body"), without(INBOUND, "body")], {"body"}, id="no texts"),
        pytest.param(
            [without(INBOUND, "date_sent"), ROW | {"date_sent": None}],
            {"date_sent"},
            id="no dates",
        ),
    ],
)
def test_open_connectors_fact_15_rows_that_lack_what_is_read_are_no_log(
    rows: list[dict[str, Any]], lacking: set[str]
) -> None:
    """A reply in doubt counts as never sent, or texts of an outage as never come."""
    with pytest.raises(ConnectorUnreadable) as caught:
        wire.read_log(rows)
    named = set(re.findall(r'"(\w+)"', str(caught.value)))
    assert lacking <= named
    assert "common resource" in caught.value.advice


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(without(ROW, "date_sent"), id="queued"),
        pytest.param(without(ROW, "status", "num_media"), id="what nobody needs"),
        pytest.param(without(ROW, "body") | {"num_media": "1"}, id="a picture alone"),
    ],
)
def test_open_connectors_fact_14_fields_that_are_null_are_left_out_of_a_log(
    row: dict[str, Any],
) -> None:
    """Every doubt would end as a dead letter while something is queued."""
    assert wire.read_log([row])


def test_open_connectors_fact_14_of_many_rows_some_lack_what_may_be_null() -> None:
    """A scheduled text of somebody else, still without a sender, would hide the whole log."""
    odd = [
        without(ROW, "from", "date_sent"),
        without(INBOUND, "body"),
        without(INBOUND, "date_sent"),
    ]
    assert len(wire.read_log([ROW, *odd, INBOUND])) == 5


def test_an_empty_log_is_a_log() -> None:
    """A reply in doubt that never went out waits for ever."""
    assert wire.read_log([]) == []
    assert wire.read_log({"messages": []}) == []


@given(JSON)
def test_no_answer_of_the_connector_ends_in_an_error(answer: Any) -> None:
    """An answer nobody has foreseen stops the sender with a TypeError."""
    wire.read_instance(answer)
    wire.read_instances(answer)
    wire.read_sid(answer)
    with contextlib.suppress(ConnectorUnreadable):
        for row in wire.read_log(answer):
            assert row.date_sent is None or row.date_sent.tzinfo is not None


@given(st.text(max_size=60) | st.text("MonTueJanFeb 0123456789:,+-GMTZ", max_size=60))
def test_no_date_ends_in_an_error(written: str) -> None:
    """One odd date in the log stops every reply in doubt."""
    assert len(wire.read_log([ROW | {"date_sent": written}])) == 1


def test_dates_of_any_zone_are_the_same_moment() -> None:
    """A reply sent from a server in another zone is looked for in the wrong hour."""
    zone = timezone(timedelta(hours=5, minutes=30))
    (row,) = wire.read_log([ROW | {"date_sent": NOW.astimezone(zone).isoformat()}])
    assert row.date_sent == NOW


def test_pictures_are_read_with_whole_urls() -> None:
    """A handler could not fetch what it is given."""
    path = "/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1"
    row = {"uri": f"{path}.json", "content_type": "image/png"}
    found = Media(f"https://api.twilio.com{path}", "image/png")

    assert wire.read_media([row]) == (found,)
    assert wire.read_media({"media_list": [row, {"sid": "ME2"}]}) == (found,)
    assert wire.read_media(None) == ()
