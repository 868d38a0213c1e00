"""The platform's events: whatever they hold, read row by row."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from hmac import digest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.open_connectors.events import may_be_signed, read_event, sort_rows, verify_event
from service.core.twilio.callback import parse_inbound, parse_status
from tests.core.twilio.test_callback import ACCOUNT, NOW
from tests.core.twilio.test_json_callback import CAMEL, FORM, JSONS, RESOURCE, SID

OURS, THEIRS = "+1415", "+1212"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Make a row of the log; a change to None leaves a field out, as null is left out."""
    fields = RESOURCE | {"sid": f"SM{number:032x}", "body": str(number)} | changes
    return {name: value for name, value in fields.items() if value is not None}


def page(*rows: object) -> bytes:
    """Wrap rows as a poll does: each as it was read, and all of them as the provider gave them."""
    events = [
        {"eventType": "CREATED", "objectType": "messages", "newObject": each} for each in rows
    ]
    message = {"elementKey": "twiliov2", "eventId": "e", "raw": {"messages": rows}}
    return json.dumps({"message": message | {"events": events}}).encode()


def bodies(body: bytes) -> list[str | None]:
    """Return the texts of an event, in order."""
    return [each.fields.get("Body") for each in read_event(body).rows if each.kind == "text"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(page(RESOURCE), id="a polled page"),
        pytest.param(
            json.dumps([{"data": FORM | {"SmsStatus": "received"}}]).encode(), id="a form"
        ),
        pytest.param(
            json.dumps({"id": SID, **row(1, sid=None)}).encode(), id="the older hub model"
        ),
    ],
)
def test_open_connectors_fact_18_a_text_is_found_however_it_is_wrapped(body: bytes) -> None:
    """Nobody documents the wrapping: a text in another one would be lost."""
    (found,) = read_event(body).rows
    message = parse_inbound(found.fields, NOW)
    assert (found.kind, message.sid) == ("text", SID)
    assert (message.from_, message.to, message.account) == (THEIRS, OURS, ACCOUNT)


def test_open_connectors_fact_18_a_row_that_cannot_be_read_costs_no_other() -> None:
    """Mapped or damaged, one of seventy rows would stop all of them, and then every event."""
    bad: list[object] = [{"sid": "SM7"}, row(8, sid="a b"), row(9, to=None), "x", None, 7, []]
    found = read_event(page(row(1), *bad, row(2)))
    assert [each.fields["Body"] for each in found.rows] == ["1", "2"]
    assert found.unreadable >= 3


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"\xff", b"7", b"[" * 100_000, b"{}"])
def test_what_holds_nothing_is_an_event_without_rows(body: bytes) -> None:
    """Refused again and again, it would have the platform give up all events."""
    assert read_event(body).rows == ()


OUTBOUND = {"direction": "outbound-api", "from": OURS, "to": THEIRS}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({}, "text", id="inbound"),
        pytest.param({"direction": None}, "text", id="received"),
        pytest.param({"direction": None, "status": None}, "", id="it does not say"),
        pytest.param(OUTBOUND | {"status": "delivered"}, "report", id="ours"),
        pytest.param(
            OUTBOUND | {"direction": None, "status": "sent"}, "report", id="by its status"
        ),
        pytest.param(
            OUTBOUND | {"direction": "outbound-reply", "status": "queued"}, "report", id="a reply"
        ),
    ],
)
def test_open_connectors_fact_18_our_own_sends_are_no_texts(
    changes: Mapping[str, Any], kind: str
) -> None:
    """Our own reply would be answered."""
    (found,) = read_event(page(row(1, **changes))).rows
    assert found.kind == kind
    if kind == "report":
        assert parse_status(found.fields).status == changes["status"]


def test_what_one_picture_of_a_message_says_of_its_way_holds_for_the_other() -> None:
    """A send of ours, shown a second time without its direction, would come in as a text."""
    sent = row(1, **OUTBOUND, status="delivered")
    bare = {name: sent[name] for name in ("sid", "from", "to", "body")}
    for rows in ((sent, bare), (bare, sent)):
        (found,) = read_event(json.dumps(rows).encode()).rows
        assert found.kind == "report"


def test_a_send_without_a_status_is_nothing() -> None:
    """It would be a report of nothing."""
    found = read_event(page(row(1, **OUTBOUND, status=None)))
    assert (found.rows, found.unreadable > 0) == ((), True)


@pytest.mark.parametrize("newest_first", [True, False])
def test_texts_of_a_page_are_read_oldest_first(newest_first: bool) -> None:
    """Written as the log is, newest first, a conversation would be answered backwards."""
    sent = [NOON + timedelta(seconds=n // 2) for n in range(7)]
    rows = [row(n, date_sent=format_datetime(moment)) for n, moment in enumerate(sent)]
    assert bodies(page(*(rows[::-1] if newest_first else rows))) == list("0123456")


def test_texts_without_a_date_keep_the_order_of_the_page() -> None:
    """Sorted by half of the dates, they would be in no order at all."""
    assert bodies(page(row(3, date_sent=None), row(1), row(2))) == ["3", "1", "2"]


def test_open_connectors_fact_18_rows_of_others_are_told_from_ours() -> None:
    """A text to another number of the account would be answered, or a stranger's report counted."""
    second = "+1416"
    rows = [
        row(1),
        row(2, to=second),
        row(3, to="+1999"),
        row(4, account_sid="AC" + "9" * 32),
        row(5, account_sid=None),
        row(6, **OUTBOUND, status="failed"),
        row(7, **(OUTBOUND | {"from": "+1999"}), status="failed"),
        row(8, **(OUTBOUND | {"direction": None}), status=None),
        row(9, **{"from": OURS, "to": second}),
        row(10, **{"from": OURS, "to": second, "direction": None, "status": None}),
    ]
    found = sort_rows(read_event(page(*rows)).rows, ACCOUNT, {OURS, second})
    assert [each.fields["Body"] for each in found.texts] == ["1", "2", "5", "9"]
    assert [each.fields["Body"] for each in found.reports] == ["6"]
    assert found.foreign == 5


@pytest.mark.parametrize(
    ("changes", "pictures"),
    [
        pytest.param({"num_media": "2"}, 2, id="told as a text"),
        pytest.param({"num_media": 1}, 1, id="told as a number"),
        pytest.param({"num_media": "0"}, 0, id="none"),
        pytest.param({"num_media": None}, 0, id="left out"),
        pytest.param({"num_media": "many"}, 0, id="no number"),
        pytest.param({"num_media": "1", "mediaUrl0": "https://m.example"}, 0, id="with its place"),
    ],
)
def test_open_connectors_fact_18_pictures_without_a_place_are_counted(
    changes: Mapping[str, Any], pictures: int
) -> None:
    """A picture alone would arrive as an empty text."""
    (found,) = read_event(page(row(1, **changes))).rows
    assert found.pictures == pictures


def test_half_a_surrogate_pair_is_no_obstacle() -> None:
    """JSON can write what UTF-8 can't: kept as it is, it could never be stored."""
    (found,) = read_event(
        json.dumps(CAMEL | {"body": "\ud83d", "direction": "inbound"}).encode()
    ).rows
    "".join(found.fields.values()).encode()


@given(value=JSONS, account=st.sampled_from([ACCOUNT, ""]))
def test_any_json_is_read_without_an_error(value: Any, account: str) -> None:
    """Whatever the platform sends must not look like a defect."""
    found = read_event(json.dumps(value).encode())
    mine = sort_rows(found.rows, account, {OURS, THEIRS})
    for each in mine.texts:
        parse_inbound(each.fields, NOW)
    for each in mine.reports:
        parse_status(each.fields)


def test_an_event_is_genuine_by_its_own_key_alone() -> None:
    """Anybody who finds the address could put words into people's mouths."""
    body = page(RESOURCE)
    signature = b"sha256=" + b64encode(digest(b"key", body, sha256))
    assert verify_event("key", body, signature)
    assert may_be_signed(signature)
    assert not verify_event("other", body, signature)
    assert not verify_event("key", body + b" ", signature)
    for junk in (None, b"", b"sha256=", signature[7:], b"\xff" * 51):
        assert not verify_event("key", body, junk)
        assert not may_be_signed(junk)
