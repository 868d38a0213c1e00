from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.entries import MESSAGE, REPLY, VERSION, EntryUnreadable, decode, encode
from service.model import Conversation, Media, Message, MessageSid, Outbound, Reply

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ODD = '\0 \x7f \u2028 \ufeff \ufffe "\\/ ﷺ \u202e e\u0301 👨‍👩‍👧 \U0010ffff 𝕳 </script>'
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MESSAGES = st.builds(
    Message,
    sid=TEXTS.map(MessageSid),
    from_=TEXTS,
    to=TEXTS,
    body=TEXTS | st.just(ODD),
    media=st.lists(st.builds(Media, TEXTS, TEXTS), max_size=10).map(tuple),
    account=TEXTS,
    received_at=st.datetimes(timezones=st.just(UTC) | ZONES),
    raw=st.dictionaries(TEXTS, TEXTS | st.just(ODD)),
)
OUTBOUNDS = st.builds(
    Outbound,
    conversation=st.builds(Conversation, TEXTS, TEXTS),
    reply=st.builds(
        Reply,
        TEXTS.filter(bool) | st.just(ODD),
        st.lists(TEXTS, max_size=10).map(tuple),
    )
    | st.builds(Reply, st.just(""), st.lists(TEXTS, min_size=1, max_size=10).map(tuple)),
    reply_to=TEXTS.map(MessageSid),
    index=st.integers(0, 1_000),
)


def fields(kind: bytes, data: bytes, version: bytes = VERSION) -> dict[bytes, bytes]:
    """Make an entry as Redis returns it."""
    return {b"v": version, b"k": kind, b"d": data}


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    """A handler sees another text than was sent, or none at all."""
    assert decode(fields(MESSAGE, encode(message))) == message


@given(OUTBOUNDS)
def test_a_reply_comes_back_as_it_was(outbound: Outbound) -> None:
    """A person is sent another text than the handler returned."""
    assert decode(fields(REPLY, encode(outbound))) == outbound


TEXT = {
    "sid": "SM1",
    "from": "+15005550123",
    "to": "+15005550100",
    "account": "AC1",
    "at": "2026-05-04T12:00:00Z",
    "raw": {"Body": "hello"},
    "body": "hello",
    "media": [["https://x.example/1", "image/png"]],
}
ANSWER = {
    "from": "+15005550100",
    "to": "+15005550123",
    "reply_to": "SM1",
    "index": 1,
    "body": "hi",
    "media": ["https://x.example/1"],
}


def test_entries_of_version_1_are_read_for_ever() -> None:
    """After an upgrade, what waits in Redis can't be read any more."""
    assert decode(fields(MESSAGE, json.dumps(TEXT).encode(), b"1")) == Message(
        sid=MessageSid("SM1"),
        from_="+15005550123",
        to="+15005550100",
        body="hello",
        media=(Media("https://x.example/1", "image/png"),),
        account="AC1",
        received_at=datetime(2026, 5, 4, 12, tzinfo=UTC),
        raw={"Body": "hello"},
    )
    assert decode(fields(REPLY, json.dumps(ANSWER).encode(), b"1")) == Outbound(
        Conversation("+15005550100", "+15005550123"),
        Reply("hi", ("https://x.example/1",)),
        MessageSid("SM1"),
        1,
    )


def test_a_field_added_later_does_not_disturb() -> None:
    """Going back to the version before makes everything in Redis unreadable."""
    data = json.dumps(TEXT | {"new": [1]}).encode()
    assert isinstance(decode(fields(MESSAGE, data)), Message)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param(fields(MESSAGE, b"{}", b"2"), "a newer Parley wrote it", id="newer"),
        pytest.param({b"k": MESSAGE, b"d": b"{}"}, "written in format None", id="no version"),
        pytest.param({}, "written in format None", id="nothing at all"),
        pytest.param(fields(b"x", b"{}"), "unknown kind b'x'", id="unknown kind"),
        pytest.param({b"v": VERSION}, "unknown kind None", id="no kind"),
        pytest.param({b"v": VERSION, b"k": MESSAGE}, "damaged entry", id="no data"),
        pytest.param(fields(MESSAGE, b'{"sid":"SM1"'), "damaged", id="cut off"),
        pytest.param(fields(MESSAGE, b'"\xff"'), "damaged", id="not UTF-8"),
        pytest.param(fields(MESSAGE, json.dumps(ANSWER).encode()), "damaged", id="a reply as text"),
        pytest.param(fields(REPLY, json.dumps(TEXT).encode()), "damaged", id="a text as reply"),
        pytest.param(
            fields(MESSAGE, json.dumps(TEXT | {"at": "soon"}).encode()), "damaged", id="no date"
        ),
        pytest.param(
            fields(REPLY, json.dumps(ANSWER | {"body": "", "media": []}).encode()),
            "damaged entry: a Reply needs a body",
            id="an empty reply",
        ),
    ],
)
def test_what_can_not_be_read_says_why(entry: dict[bytes, bytes], said: str) -> None:
    """One entry nobody can read stops its partition with an error of a library."""
    with pytest.raises(EntryUnreadable, match=said):
        decode(entry)


@given(st.sampled_from([MESSAGE, REPLY]), st.binary())
def test_no_bytes_end_in_another_error(kind: bytes, data: bytes) -> None:
    """Damage in Redis takes the worker down instead of becoming a dead letter."""
    with pytest.raises(EntryUnreadable):
        decode(fields(kind, data))
