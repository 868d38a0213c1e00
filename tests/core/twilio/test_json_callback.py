"""Messages found in JSON, however it is wrapped."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.twilio.callback import is_status, parse_inbound, parse_status
from service.core.twilio.json_callback import read
from service.errors import CallbackIncomplete
from tests.core.twilio.test_callback import ACCOUNT, NOW

SID = "SM" + "a1" * 16
FORM = {"MessageSid": SID, "From": "+1212", "To": "+1415", "Body": "hé", "AccountSid": ACCOUNT}
RESOURCE = {
    "sid": SID,
    "from": "+1212",
    "to": "+1415",
    "body": "hé",
    "account_sid": ACCOUNT,
    "direction": "inbound",
    "status": "received",
    "num_media": "0",
    "date_sent": "Tue, 24 Nov 2026 10:00:00 +0000",
    "error_code": None,
    "subresource_uris": {"media": "/x"},
}
CAMEL = {"messageSid": SID, "from": "+1212", "to": "+1415", "body": "hé", "accountSid": ACCOUNT}


def event(*objects: object, raw: object = None) -> bytes:
    """Wrap objects as the platform does."""
    events = [{"eventType": "CREATED", "objectType": "messages", "newObject": o} for o in objects]
    return json.dumps({"message": {"elementKey": "twilio", "raw": raw, "events": events}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps(FORM).encode(), id="the form's names, bare"),
        pytest.param(json.dumps(RESOURCE).encode(), id="the resource's names, bare"),
        pytest.param(
            json.dumps([{"specversion": "1.0", "data": CAMEL}]).encode(), id="CloudEvents"
        ),
        pytest.param(event(RESOURCE), id="an event's object"),
        pytest.param(event({"objectId": SID}, raw=FORM), id="an event's raw body"),
        pytest.param(event(RESOURCE, raw=FORM), id="both, the same message"),
        pytest.param(event(raw={"messages": [RESOURCE]}), id="a polled page"),
    ],
)
def test_one_message_is_found_however_it_is_wrapped(body: bytes) -> None:
    """Nobody documents the wrapping: a text in another one would be lost."""
    [fields] = read(body)
    assert not is_status(fields)
    message = parse_inbound(fields, NOW)
    assert (message.sid, message.from_, message.to) == (SID, "+1212", "+1415")
    assert (message.body, message.account) == ("hé", ACCOUNT)


def test_several_messages_of_one_event_come_in_its_order() -> None:
    """Two texts of one person would be answered in the wrong order."""
    sids = [f"SM{n:032x}" for n in (3, 1, 2)]
    found = read(event(*(RESOURCE | {"sid": sid} for sid in sids)))
    assert [fields["MessageSid"] for fields in found] == sids


def test_a_report_on_a_reply_is_told_from_a_text_in_both_spellings() -> None:
    """Taken for a text, our own reply would be answered."""
    sent = RESOURCE | {"direction": "outbound-api", "status": "undelivered", "error_code": 30003}
    for body in (
        event(sent),
        event({key: sent[key] for key in sent if key != "direction"}),
        event(FORM | {"MessageStatus": "undelivered", "ErrorCode": "30003"}),
    ):
        [fields] = read(body)
        assert is_status(fields)
        status = parse_status(fields)
        assert (status.sid, status.status, status.error_code) == (SID, "undelivered", "30003")


def test_each_report_on_a_reply_counts_and_so_does_a_text_beside_them() -> None:
    """Reports of one reply share its sid: that it failed would be swallowed by that it was sent."""
    states = ("sent", "delivered", "undelivered")
    sent = RESOURCE | {"direction": "outbound-api"}
    found = read(event(*(sent | {"status": each} for each in states), sent | {"status": "sent"}))
    assert [parse_status(fields).status for fields in found] == list(states)
    assert all(map(is_status, found))


def test_pictures_are_read() -> None:
    """A picture alone would arrive as an empty text."""
    [fields] = read(event(CAMEL | {"mediaUrl0": "https://m.example/1", "mediaContentType0": "a/b"}))
    [media] = parse_inbound(fields, NOW).media
    assert (media.url, media.content_type) == ("https://m.example/1", "a/b")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b"NaN",
        json.dumps({"message": {"events": [{"objectId": SID}]}}).encode(),
        json.dumps(FORM | {"From": None}).encode(),
        json.dumps(FORM | {"To": ""}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_announces_no_message_is_refused_and_nothing_worse(body: bytes) -> None:
    """Answered 200 it would be lost in silence; raising, it would be a defect in the log."""
    with pytest.raises(CallbackIncomplete):
        read(body)


def test_half_a_surrogate_pair_is_no_obstacle() -> None:
    """JSON can write what UTF-8 can't: kept as it is, it could never be stored."""
    [fields] = read(json.dumps(FORM | {"Body": "\ud83d", "\ud83d": "x"}).encode())
    "".join((*fields, *fields.values())).encode()


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*FORM]), inner),
)


@given(value=JSONS)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Whatever the platform sends must not look like a defect."""
    try:
        found = read(json.dumps(value).encode())
    except CallbackIncomplete:
        return
    for fields in found:
        assert all(isinstance(each, str) for each in (*fields, *fields.values()))
        (parse_status if is_status(fields) else lambda f: parse_inbound(f, NOW))(fields)
