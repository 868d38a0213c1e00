"""Pages of rows that the platform polled: what is ours is taken, whatever is beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from service.errors import ConnectorError, ConnectorFailed, ConnectorGone
from service.model import Media
from service.store.keys import OUR_NUMBERS
from service.store.watermark import Watermark
from service.web.door.events import LARGE_AT_ONCE
from tests.connector.pieces import connected, running_platform
from tests.web.conftest import ACCOUNT, OURS
from tests.web.door.test_callbacks import TWIML, assert_refused
from tests.web.door.test_callers import EVENT_KEY, relay

pytestmark = pytest.mark.anyio

THEIRS, OTHER = "+12125550123", "+14155550199"


@dataclass
class Pictures:
    """A connector that says where pictures are, or what `fails` says."""

    fails: ConnectorError | None = None
    hangs: bool = False
    asked: list[str] = field(default_factory=list)

    async def media_of(self, sid: str) -> tuple[Media, ...]:
        self.asked.append(sid)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        return (Media(f"https://api.twilio.com/{sid}", "image/png"),)


@pytest.fixture
def pictures() -> Pictures:
    """Return a connector that has pictures."""
    return Pictures()


@pytest.fixture
async def front(open_front: Any, pictures: Pictures) -> Any:
    """A door that takes events."""
    return await open_front(event_key=EVENT_KEY, events={"pictures": pictures, "pictures_s": 1})


def row(front: Any, body: str = "hello", **changes: Any) -> dict[str, Any]:
    """Make a row of the log, as polled."""
    front.count += 1
    fields = {
        "sid": f"SM{front.count:032x}",
        "account_sid": ACCOUNT,
        "from": THEIRS,
        "to": OURS,
        "body": body,
        "direction": "inbound",
        "status": "received",
        "num_media": "0",
        "num_segments": "1",
        "date_created": "Tue, 24 Nov 2026 10:00:00 +0000",
        "date_sent": "Tue, 24 Nov 2026 10:00:00 +0000",
        "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/SM{front.count:032x}.json",
        "subresource_uris": {"media": "/x" * 200},
    }
    return fields | changes


def page(*rows: object) -> bytes:
    """Wrap rows as the platform does."""
    events = [
        {"eventType": "CREATED", "objectType": "messages", "newObject": each} for each in rows
    ]
    return json.dumps({"message": {"elementKey": "twiliov2", "events": events}}).encode()


async def texts(front: Any) -> list[str]:
    """Return what is in the inboxes."""
    return sorted(message.body for message in await front.stored())


async def test_open_connectors_fact_18_a_page_of_seventy_rows_is_taken_whole(front: Any) -> None:
    """Above 64 kB it was refused, again and again, until the platform gave up all events."""
    body = page(*(row(front, f"text {n:02d}", padding="x" * 300) for n in range(70)))
    assert len(body) > 70_000
    response = await relay(front, body)
    assert (response.status_code, response.content) == (200, TWIML)
    assert await texts(front) == [f"text {n:02d}" for n in range(70)]
    assert (front.door.counters.accepted, front.door.counters.too_large) == (1, 0)


async def test_an_event_has_a_limit_and_others_have_their_own(open_front: Any) -> None:
    """Without one anybody fills the memory; with the events' own, anybody's callback is as long."""
    front = await open_front(event_key=EVENT_KEY, events={"limit_bytes": 100_000})
    assert_refused(await relay(front, b'"' + b"x" * 100_000 + b'"'), 413)
    plain = {"content-type": "application/json"}
    long = await front.client.post(front.path, content=b"x" * 90_000, headers=plain)
    assert_refused(long, 413)
    assert (await relay(front, b'"' + b"x" * 90_000 + b'"')).status_code == 200


@asynccontextmanager
async def begun(front: Any, signature: str, length: int) -> AsyncIterator[asyncio.StreamReader]:
    """Begin an event and send nothing of its body."""
    parts = urlsplit(front.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST {front.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Elements-Webhook-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n"
    )
    writer.write(head.encode())
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def test_an_unsigned_event_is_refused_before_its_body_is_read(front: Any) -> None:
    """Anybody could have us read four megabytes."""
    async with begun(front, "sha256=x", 4_000_000) as reader, asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
    assert front.door.counters.bad_signature == 1


async def test_few_large_events_are_held_at_once_and_small_ones_do_not_wait_for_them(
    front: Any,
) -> None:
    """Four megabytes for each of a thousand strangers is more memory than there is."""
    signature = "sha256=" + "A" * 43 + "="
    large = page(*(row(front, f"{n}", padding="x" * 1_000) for n in range(70)))
    async with AsyncExitStack() as stack:
        for _ in range(LARGE_AT_ONCE):
            await stack.enter_async_context(begun(front, signature, 4_000_000))
        # What has not arrived counts nowhere: the places for large bodies show that it was begun.
        while not front.door._events._large.locked():
            await asyncio.sleep(0.01)
        assert (await relay(front, page(row(front, "small")))).status_code == 200
        waiting = asyncio.create_task(relay(front, large))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    assert (await waiting).status_code == 200
    assert len(await front.stored()) == 71


async def test_open_connectors_fact_18_a_text_to_another_number_of_the_account_is_left_alone(
    front: Any,
) -> None:
    """Whoever serves that number would find his customers answered from it by us."""
    with capture_logs() as lines:
        response = await relay(front, page(row(front, "other", to=OTHER), row(front, "ours")))
    assert response.status_code == 200
    assert await texts(front) == ["ours"]
    assert [line["count"] for line in lines] == [1]
    assert OTHER not in repr(lines)


async def test_a_number_that_a_text_was_accepted_for_before_is_ours(front: Any) -> None:
    """A second number of ours would be served by callbacks and not by events."""
    fields = front.fields(To=OTHER)
    assert (await front.post(fields)).status_code == 200
    known = row(front, "known", sid=fields["MessageSid"], to=OTHER)
    assert (await relay(front, page(row(front, "new", to=OTHER), known))).status_code == 200
    assert len(await front.stored()) == 2
    assert await front.redis.smembers(OUR_NUMBERS) == {OTHER.encode()}
    await relay(front, page(row(front, "later", to=OTHER)))
    assert "later" in await texts(front)


async def test_the_numbers_that_the_backfill_learned_are_ours(front: Any) -> None:
    """The two would disagree on whose a text is."""
    await Watermark(front.redis).learn({OTHER})
    await relay(front, page(row(front, "hello", to=OTHER)))
    assert await texts(front) == ["hello"]


async def test_open_connectors_fact_18_our_own_sends_are_reports_and_never_texts(
    front: Any,
) -> None:
    """Our own reply would be answered, and that answer too."""
    sent: dict[str, Any] = {"from": OURS, "to": THEIRS, "direction": "outbound-api"}
    rows = [
        row(front, **sent, status="delivered"),
        row(front, **sent, status="failed", error_code=30005),
        row(front, **(sent | {"direction": None}), status="sent"),
        row(front, **(sent | {"direction": None}), status=None),
        row(front, **(sent | {"from": OTHER}), status="failed"),
    ]
    with capture_logs() as lines:
        assert (await relay(front, page(*rows))).status_code == 200
    assert await texts(front) == []
    assert front.door.counters.statuses == 1
    lost = [line for line in lines if line["event"] == "a reply did not reach its phone"]
    assert [line["twilio_error"] for line in lost] == ["30005"]


async def test_open_connectors_fact_18_a_row_that_is_no_row_costs_no_other(front: Any) -> None:
    """One odd row would keep every text of a quarter of an hour out."""
    rows = [{"id": "SM1"}, {"sid": "SM2"}, row(front, sid="a b"), row(front, account_sid="AC9"), 7]
    with capture_logs() as lines:
        response = await relay(front, page(*rows, row(front, "good"), None))
    assert response.status_code == 200
    assert await texts(front) == ["good"]
    assert [line["unreadable"] for line in lines] == [2]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", page(), page({"objectId": "SM1"}), b"[" * 90_000], ids=repr
)
async def test_open_connectors_fact_18_a_genuine_event_with_nothing_for_us_is_answered_200(
    front: Any, body: bytes
) -> None:
    """Refused for nine hours, it ends the subscription: no text arrives any more."""
    with capture_logs() as lines:
        response = await relay(front, body)
    assert (response.status_code, response.content) == (200, TWIML)
    assert await front.contents() == {}
    assert front.door.counters.not_ours == 1
    assert "can't be read" in lines[0]["event"]


async def test_a_polled_text_and_its_callback_are_one(front: Any, pictures: Pictures) -> None:
    """A person would be answered twice where both are switched on."""
    fields = front.fields(NumMedia="1", MediaUrl0="https://m.example/1", MediaContentType0="a/b")
    assert (await front.post(fields)).status_code == 200
    polled = row(front, sid=fields["MessageSid"], num_media="1")
    assert (await relay(front, page(polled))).status_code == 200
    [message] = await front.stored()
    assert (message.body, message.media[0].url) == (fields["Body"], "https://m.example/1")
    assert pictures.asked == []
    assert (front.door.counters.accepted, front.door.counters.duplicates) == (1, 1)

    first = row(front, "polled first")
    assert (await relay(front, page(first))).status_code == 200
    late = front.fields(MessageSid=first["sid"], SmsSid=first["sid"], SmsMessageSid=first["sid"])
    assert (await front.post(late)).status_code == 200
    assert len(await front.stored()) == 2


async def test_a_conversation_of_a_page_is_accepted_in_the_order_it_was_sent(front: Any) -> None:
    """Written newest first, as the log is, it would be answered backwards."""
    at = "Tue, 24 Nov 2026 10:00:{:02d} +0000"
    rows = [row(front, f"text {n}", date_sent=at.format(n)) for n in range(9, -1, -1)]
    await relay(front, page(*rows))
    assert [message.body for message in await front.stored()] == [f"text {n}" for n in range(10)]


async def test_open_connectors_fact_18_pictures_are_asked_for(
    front: Any, pictures: Pictures
) -> None:
    """A picture alone arrived as an empty text."""
    polled = row(front, num_media="1")
    del polled["body"]
    assert (await relay(front, page(polled, row(front, "plain")))).status_code == 200
    message = next(each for each in await front.stored() if each.sid == polled["sid"])
    url = f"https://api.twilio.com/{polled['sid']}"
    assert (message.body, message.media) == ("", (Media(url, "image/png"),))
    assert (message.raw["MediaUrl0"], message.raw["NumMedia"]) == (url, "1")
    assert pictures.asked == [polled["sid"]]


async def test_pictures_come_from_the_connectors_own_answer(open_front: Any) -> None:
    """What the platform says of them would not be understood."""
    async with running_platform() as platform:
        platform.instances["1"] = {"token": "token", "disabled": False}
        platform.media = [{"uri": "/2010-04-01/a.json", "content_type": "image/png"}]
        async with connected(platform.url, token="token") as connector:
            front = await open_front(event_key=EVENT_KEY, events={"pictures": connector})
            await relay(front, page(row(front, num_media="1")))
    [message] = await front.stored()
    assert message.media == (Media("https://api.twilio.com/2010-04-01/a", "image/png"),)


@pytest.mark.parametrize("hangs", [False, True], ids=["it fails", "it hangs"])
async def test_pictures_that_cannot_be_had_now_cost_neither_the_text_nor_those_beside_it(
    front: Any, pictures: Pictures, *, hangs: bool
) -> None:
    """The text would come without its picture, or the door would wait for the connector."""
    pictures.hangs, pictures.fails = hangs, ConnectorFailed("maintenance", status=503)
    polled = row(front, "look", num_media="1")
    behind = row(front, "behind it")
    body = page(polled, behind, row(front, "beside it", **{"from": "+13125550123"}))
    async with asyncio.timeout(5):
        answer = await relay(front, body)
    assert_refused(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert await texts(front) == ["beside it"]

    pictures.hangs, pictures.fails = False, None
    assert (await relay(front, body)).status_code == 200
    mine = [each.body for each in await front.stored() if each.from_ == THEIRS]
    assert mine == ["look", "behind it"]
    assert await texts(front) == ["behind it", "beside it", "look"]


async def test_pictures_that_are_gone_do_not_keep_their_text_out(
    front: Any, pictures: Pictures
) -> None:
    """The event would be refused until the platform gives up all of them."""
    pictures.fails = ConnectorGone("no such message", status=404)
    assert (await relay(front, page(row(front, "look", num_media="1")))).status_code == 200
    [message] = await front.stored()
    assert (message.body, message.media) == ("look", ())


async def test_a_full_inbox_costs_its_own_conversation_alone(open_front: Any) -> None:
    """All texts of a page would wait for one partition's workers."""
    front = await open_front(event_key=EVENT_KEY, limit=1)
    rows = [
        row(front, f"{who} {n}", **{"from": f"+1212555{who:04d}"})
        for who in range(20)
        for n in range(2)
    ]
    assert_refused(await relay(front, page(*rows)), 503)
    kept = await texts(front)
    assert len(kept) == 4, "one a partition"
    assert all(body.endswith(" 0") for body in kept)
