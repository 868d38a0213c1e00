"""A door that is shut until the service is set up, and turns to another setup while it is open."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from service.core.twilio.signature import Verifier
from tests.web.conftest import ACCOUNT, CALLBACK_URL, OURS, TOKEN
from tests.web.door.test_callbacks import TWIML, assert_refused
from tests.web.door.test_callers import EVENT_KEY, relay
from tests.web.door.test_events import page, row

pytestmark = pytest.mark.anyio

NEXT_TOKEN = "fedcba9876543210fedcba9876543210"
OTHER_ACCOUNT = "AC" + "2e" * 16


def turn(front: Any, *tokens: str, account: str = ACCOUNT, **events: str) -> None:
    """Turn the door to these tokens; events: what is to be known of the platform's."""
    known = {"sender": OURS, "event_key": ""} | events
    front.door.turn_to(Verifier(CALLBACK_URL, tokens), account, **known)


async def test_before_the_setup_whatever_comes_is_asked_for_again_later(open_front: Any) -> None:
    """Texts would be lost for good, or let in although nothing could be verified."""
    front = await open_front(shut=True, event_key=EVENT_KEY)
    fields = front.fields()
    with capture_logs() as lines:
        answers = [
            await front.post(fields),
            await front.post(fields, x_twilio_signature="forged"),
            await front.client.get(front.path, params=fields),
            await front.client.put(front.path, content=b"x"),
            await front.client.post(front.path, content=b"x" * 100_000),
            await relay(front, page(row(front))),
        ]
    for answer in answers:
        assert_refused(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
    assert front.door.counters.not_set_up == len(answers)
    assert await front.contents() == {}
    assert "run `parley console`" in lines[0]["event"]
    assert len(lines) == 1, "a flood of callbacks would be one of lines"


async def test_from_the_setup_on_texts_are_taken(open_front: Any) -> None:
    """The service would have to be started again."""
    front = await open_front(shut=True)
    fields = front.fields()
    assert_refused(await front.post(fields), 503)
    turn(front, TOKEN)
    response = await front.post(fields)
    assert (response.status_code, response.content) == (200, TWIML)
    assert_refused(await front.post(fields, x_twilio_signature="forged"), 403)
    assert [message.sid for message in await front.stored()] == [fields["MessageSid"]]


async def test_a_new_token_is_taken_beside_the_former_one_until_that_is_retired(front: Any) -> None:
    """Twilio signs with the former token until it is told; texts would be refused meanwhile."""

    async def signed_with(token: str) -> int:
        fields = front.fields()
        signature = front.sign(fields, token=token)
        return int((await front.post(fields, x_twilio_signature=signature)).status_code)

    assert (await signed_with(TOKEN), await signed_with(NEXT_TOKEN)) == (200, 403)
    turn(front, NEXT_TOKEN, TOKEN)
    assert (await signed_with(TOKEN), await signed_with(NEXT_TOKEN)) == (200, 200)
    turn(front, NEXT_TOKEN)
    assert (await signed_with(TOKEN), await signed_with(NEXT_TOKEN)) == (403, 200)


async def test_callbacks_of_the_account_it_was_turned_to_are_taken_and_others_are_not(
    front: Any,
) -> None:
    """Texts of the new account would be refused as another one's, or the former's be answered."""
    turn(front, TOKEN, account=OTHER_ACCOUNT)
    assert_refused(await front.post(front.fields()), 403)
    assert (await front.post(front.fields(AccountSid=OTHER_ACCOUNT))).status_code == 200


@pytest.mark.parametrize("key", [EVENT_KEY, "the next key"])
async def test_events_are_taken_by_the_key_and_for_the_number_they_were_turned_to(
    open_front: Any, key: str
) -> None:
    """Relayed texts would be refused, or left alone, until the service is started again."""
    front = await open_front(event_key=EVENT_KEY)
    other = "+14155550177"
    assert (await relay(front, page(row(front, to=other)))).status_code == 200
    assert await front.stored() == []
    turn(front, TOKEN, account=OTHER_ACCOUNT, sender=other, event_key="the next key")
    relayed = await relay(
        front, page(row(front, to=other, account_sid=OTHER_ACCOUNT), row(front, to=OURS)), key=key
    )
    if key == EVENT_KEY:
        assert_refused(relayed, 403)
        return
    assert relayed.status_code == 200
    [message] = await front.stored()
    assert (message.to, message.account) == (other, OTHER_ACCOUNT)
