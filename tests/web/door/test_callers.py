"""Three callers at one door: Twilio's form, Twilio's JSON, the platform's events."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from hmac import digest
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from twilio.request_validator import RequestValidator

from tests.web.door.test_callbacks import TWIML, URL, assert_refused

pytestmark = pytest.mark.anyio

EVENT_KEY = "the instance's signature key"


@pytest.fixture
async def front(open_front: Any) -> Any:
    """A door that knows the platform's key and a shared key."""
    return await open_front(event_key=EVENT_KEY, shared_keys={"SK1": "shared secret"})


async def relay(front: Any, body: bytes, key: str = EVENT_KEY, **headers: str) -> httpx.Response:
    """POST a body as the platform does."""
    signature = "sha256=" + b64encode(digest(key.encode(), body, "sha256")).decode()
    sent = {"content-type": "application/json", "elements-webhook-signature": signature} | headers
    response: httpx.Response = await front.client.post(front.path, content=body, headers=sent)
    return response


def event(*objects: dict[str, str]) -> bytes:
    """Wrap parameters as the platform relays them."""
    events = [{"eventType": "CREATED", "newObject": each} for each in objects]
    return json.dumps({"message": {"elementKey": "twilio", "events": events}}).encode()


async def test_open_connectors_fact_11_a_relayed_text_and_its_callback_are_one(front: Any) -> None:
    """A person would be answered twice where both are switched on."""
    fields = front.fields()
    for _ in range(2):
        response = await relay(front, event(fields))
        assert (response.status_code, response.content) == (200, TWIML)
    assert (await front.post(fields)).status_code == 200
    [message] = await front.stored()
    assert (message.sid, message.body) == (fields["MessageSid"], fields["Body"])
    assert (front.door.counters.accepted, front.door.counters.duplicates) == (1, 2)


async def test_an_event_with_several_texts_keeps_them_all_in_order(front: Any) -> None:
    """All but one of a polled page would be lost."""
    texts = [front.fields(Body=f"text {n}") for n in range(20)]
    assert (await relay(front, event(*texts))).status_code == 200
    assert [message.body for message in await front.stored()] == [f"text {n}" for n in range(20)]


async def test_an_event_that_redis_does_not_take_is_asked_for_again(open_front: Any) -> None:
    """The platform repeats for nine hours what is not answered 200."""
    front = await open_front(event_key=EVENT_KEY, limit=1)
    texts = [front.fields() for _ in range(2)]
    assert_refused(await relay(front, event(*texts)), 503)
    assert [message.sid for message in await front.stored()] == [texts[0]["MessageSid"]]


async def test_open_connectors_fact_11_an_event_needs_its_own_signature(front: Any) -> None:
    """Neither a wrong key nor Twilio's signature may stand in for it."""
    body = event(front.fields())
    with capture_logs() as lines:
        assert_refused(await relay(front, body, key="another key"), 403)
    assert "EVENT_SIGNATURE_KEY is not" in lines[0]["hint"]
    genuine = {"content-type": "application/json", "x-twilio-signature": front.sign({}, URL)}
    for headers in (genuine, {"content-type": "application/json"}):
        assert_refused(await front.client.post(front.path, content=body, headers=headers), 403)
    assert await front.contents() == {}


async def test_without_its_key_every_event_is_refused_and_the_setting_is_named(
    open_front: Any,
) -> None:
    """With an empty key anybody could sign."""
    front = await open_front()
    with capture_logs() as lines:
        assert_refused(await relay(front, event(front.fields()), key=""), 403)
    assert "Set EVENT_SIGNATURE_KEY" in lines[0]["hint"]
    assert await front.contents() == {}


async def test_a_relayed_report_and_its_callback_are_one(front: Any) -> None:
    """Counted twice, failures would look worse than they are."""
    fields = front.fields(
        SmsStatus=None, MessageStatus="delivered", From="+14155550100", To="+12125550123"
    )
    assert (await relay(front, event(fields))).status_code == 200
    assert (await front.post(fields)).status_code == 200
    assert (front.door.counters.statuses, front.door.counters.duplicates) == (1, 1)
    assert await front.stored() == []


async def test_twilio_fact_03_json_is_taken_with_its_digest_and_refused_without(front: Any) -> None:
    """Without the digest the signature covers the URL alone: the body could be anybody's."""
    fields = front.fields()
    body = json.dumps(fields).encode()
    query = f"?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {
        "content-type": "application/json",
        "x-twilio-signature": front.sign({}, URL + query),
    }
    assert_refused(await front.client.post(front.path, content=body, headers=headers), 403)
    altered = await front.client.post(front.path + query, content=body + b" ", headers=headers)
    assert_refused(altered, 403)
    unsigned = {"content-type": "application/json", "x-twilio-signature": front.sign({}, URL)}
    assert_refused(await front.client.post(front.path, content=body, headers=unsigned), 403)
    assert await front.contents() == {}
    response = await front.client.post(front.path + query, content=body, headers=headers)
    assert (response.status_code, response.content) == (200, TWIML)
    assert [message.raw for message in await front.stored()] == [fields]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        pytest.param({}, 200, id="genuine"),
        pytest.param({"AccountSid": "AC" + "2e" * 16}, 403, id="another account"),
        pytest.param({"SmsSid": "SM" + "2e" * 16}, 403, id="another sid is hidden"),
        pytest.param({"AccountSid": None}, 403, id="no account"),
    ],
)
async def test_every_message_of_a_json_body_is_looked_at_before_one_is_taken(
    front: Any, changes: dict[str, str | None], status: int
) -> None:
    """Behind a genuine text anything would come in, or half a body be answered as refused."""
    texts = [front.fields(), front.fields(**changes)]
    body = json.dumps(texts).encode()
    query = f"?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = front.sign({}, URL + query)
    headers = {"content-type": "application/json", "x-twilio-signature": signature}
    response = await front.client.post(front.path + query, content=body, headers=headers)
    assert response.status_code == status
    assert len(await front.stored()) == (2 if status == 200 else 0)


async def test_twilio_fact_05_a_callback_signed_with_a_shared_key_is_let_in(front: Any) -> None:
    """An account that has moved to shared keys would have every callback refused."""
    fields = front.fields()
    signature = RequestValidator("shared secret").compute_signature(URL, fields, "HMAC_SHA256")
    for named, status in (
        ("key=SK2,algorithm=HMAC_SHA256", 403),
        ("key=SK1,algorithm=HMAC_SHA512", 403),
        ("key=SK1,algorithm=HMAC_SHA256", 200),
    ):
        response = await front.post(
            fields,
            x_twilio_signature=signature,
            x_twilio_webhooks_signature_settings=named,
        )
        assert response.status_code == status, named
    assert len(await front.stored()) == 1


async def test_a_shared_key_we_do_not_have_is_named(front: Any) -> None:
    """The operator has to learn which key to add, and where."""
    with capture_logs() as lines:
        await front.post(
            front.fields(),
            x_twilio_signature="A" * 43 + "=",
            x_twilio_webhooks_signature_settings="key=SK2,algorithm=HMAC_SHA256",
        )
    assert "'SK2'" in lines[0]["hint"]
    assert "TWILIO_SHARED_KEYS" in lines[0]["hint"]


async def test_a_form_sent_as_json_is_explained(front: Any) -> None:
    """A proxy that rewrites Content-Type: the signature alone would look right."""
    with capture_logs() as lines:
        refused = await front.post(front.fields(), content_type="application/json")
    assert_refused(refused, 403)
    assert "sent as JSON" in lines[0]["hint"]
