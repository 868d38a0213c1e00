"""An instance's /messages: sending, and the log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.lab.sandbox.pieces import (
    ACCOUNT,
    BASE,
    ORGANIZATION,
    OURS,
    PLATFORM,
    THEIRS,
    USER,
    Door,
    Sandbox,
    instance,
)

pytestmark = pytest.mark.anyio

TWILIO = {"To": THEIRS, "From": OURS, "Body": "hi"}
HUB = {"to": THEIRS, "from": OURS, "subject": "s", "message": "hi"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [(TWILIO, {"sid", "date_created"}), (HUB, {"id", "subject", "message", "sentTime"})],
    ids=["Twilio's model", "hub model"],
)
async def test_open_connectors_fact_09_both_documented_bodies_are_accepted_and_answered_in_kind(
    sandbox: Sandbox, body: dict[str, str], fields: set[str]
) -> None:
    """A template for one of the two would fail only with the real connector."""
    created = await sandbox.provision()

    answer = await sandbox.send(created["token"], body)

    assert answer.status == 200
    assert fields | {"to", "from", "status"} <= answer.json.keys()
    assert ("sid" in answer.json) is not ("id" in answer.json)
    assert answer.json["direction"] == "outbound-api"
    assert answer.headers["elements-element-instance-id"] == str(created["id"])
    (reply,) = await sandbox.thread()
    assert (reply["theirs"], reply["ours"], reply["body"]) == (THEIRS, OURS, "hi")


@pytest.mark.parametrize("path", ["", "/hubs/messaging", "/hubs/anything"])
async def test_open_connectors_fact_08_the_hub_name_in_the_path_is_ignored(
    sandbox: Sandbox, path: str
) -> None:
    """A base URL written another documented way would not work here."""
    created = await sandbox.provision()

    assert (await sandbox.send(created["token"], path=path)).status == 200
    listed = await sandbox.ask("GET", f"{BASE}{path}/messages", instance(created["token"]))
    assert len(listed.json) == 1


async def test_open_connectors_fact_02_the_organization_may_be_left_out_for_an_instance(
    sandbox: Sandbox,
) -> None:
    """A documented header would be refused."""
    created = await sandbox.provision()
    header = f"User {USER}, Element {created['token']}"

    assert (await sandbox.ask("POST", f"{BASE}/messages", header, TWILIO)).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        PLATFORM,
        f"{PLATFORM}, Element wrong",
        "User wrong, Organization {organization}, Element {token}",
        "User {user}, Organization wrong, Element {token}",
        "Organization {organization}, Element {token}",
        "Element {token}",
    ],
)
async def test_a_send_with_wrong_credentials_is_401_and_noted(
    sandbox: Sandbox, authorization: str
) -> None:
    """The demo would confirm replies that the connector would have refused."""
    created = await sandbox.provision()
    header = authorization.format(user=USER, organization=ORGANIZATION, token=created["token"])

    answer = await sandbox.ask("POST", f"{BASE}/messages", header, TWILIO)

    records = await sandbox.records()
    assert answer.status == 401
    assert answer.json.keys() == {"requestId", "message"}
    assert records["replies"] == []
    (refusal,) = records["refusals"]
    assert (refusal["status"], refusal["token_ok"]) == (401, False)


async def test_a_reply_says_which_instances_token_it_carried(sandbox: Sandbox) -> None:
    """Nobody could tell that replies go out through the instance that was provisioned."""
    await sandbox.provision()
    second = await sandbox.provision()

    await sandbox.send(second["token"])

    (reply,) = (await sandbox.records())["replies"]
    assert (reply["instance"], reply["token_ok"]) == (second["id"], True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"To": ""}, "21604"),
        ({"Body": ""}, "21602"),
        ({"Body": "x" * 1601}, "21617"),
        ({"MediaUrl": ["https://example.com/a.png"] * 11}, "21623"),
    ],
    ids=["no To", "no Body", "too long", "too many pictures"],
)
async def test_what_twilio_refuses_is_a_400_with_its_words(
    sandbox: Sandbox, change: dict[str, Any], code: str
) -> None:
    """A reply that can't be sent would be repeated for ever."""
    created = await sandbox.provision()

    answer = await sandbox.send(created["token"], TWILIO | change)

    assert answer.status == 400
    assert answer.json["providerMessage"].startswith(code)
    assert answer.headers["elements-element-instance-id"] == str(created["id"])
    (refusal,) = (await sandbox.records())["refusals"]
    assert refusal["token_ok"]


async def test_a_picture_alone_is_a_message(sandbox: Sandbox) -> None:
    """A handler that answers with a picture would look broken."""
    created = await sandbox.provision()
    urls = ["https://example.com/a.png"]

    one = await sandbox.send(created["token"], {"To": THEIRS, "MediaUrl": urls[0]})
    several = await sandbox.send(created["token"], {"To": THEIRS, "MediaUrl": urls * 2})

    assert (one.json["num_media"], several.json["num_media"]) == ("1", "2")
    assert [each["media"] for each in await sandbox.thread()] == [urls, urls * 2]


async def test_replies_are_kept_in_the_order_they_arrived(sandbox: Sandbox) -> None:
    """A test of ordering could not tell a wrong order from a right one."""
    created = await sandbox.provision()
    for body in "abc":
        await sandbox.send(created["token"], TWILIO | {"Body": body})

    replies = (await sandbox.records())["replies"]

    assert [each["body"] for each in replies] == ["a", "b", "c"]
    assert [each["arrival"] for each in replies] == [1, 2, 3]
    moments = [each["moment_s"] for each in replies]
    assert moments == sorted(moments)


# --- the log ----------------------------------------------------------------------------------


async def log(sandbox: Sandbox, token: str, query: str = "") -> list[dict[str, Any]]:
    """Read a page of the log."""
    answer = await sandbox.ask("GET", f"{BASE}/hubs/messaging/messages{query}", instance(token))
    assert answer.status == 200, answer.body
    return list(answer.json)


async def test_open_connectors_fact_10_the_log_has_both_directions_newest_first(
    sandbox: Sandbox, door: Door
) -> None:
    """Backfill and the look-up of replies in doubt would read another log than the real one."""
    created = await sandbox.provision(door.url)
    text = await sandbox.text("in")
    reply = (await sandbox.send(created["token"], TWILIO | {"Body": "out"})).json

    newest, oldest = await log(sandbox, created["token"])

    assert [newest["sid"], oldest["sid"]] == [reply["sid"], text["sid"]]
    assert (newest["direction"], newest["from"], newest["to"]) == ("outbound-api", OURS, THEIRS)
    assert (oldest["direction"], oldest["from"], oldest["to"]) == ("inbound", THEIRS, OURS)
    assert (oldest["status"], oldest["num_media"], oldest["body"]) == ("received", "0", "in")
    assert oldest["account_sid"] == ACCOUNT
    age = datetime.now(UTC) - parsedate_to_datetime(newest["date_sent"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)


async def test_open_connectors_fact_10_the_log_is_paged_two_hundred_rows_at_most(
    sandbox: Sandbox,
) -> None:
    """A reader that stops after one page would look complete."""
    created = await sandbox.provision()
    for number in range(205):
        await sandbox.send(created["token"], TWILIO | {"Body": str(number)})

    async def bodies(query: str) -> list[str]:
        return [row["body"] for row in await log(sandbox, created["token"], query)]

    newest_first = [str(number) for number in reversed(range(205))]
    assert await bodies("") == newest_first[:50]
    assert await bodies("?page=2&pageSize=30") == newest_first[30:60]
    assert await bodies("?pageSize=1000") == newest_first[:200]
    assert await bodies("?page=2&pageSize=200") == newest_first[200:]
    assert await bodies("?page=3&pageSize=200") == []
    assert await bodies("?page=none&pageSize=-1") == newest_first[:50]


async def test_where_narrows_the_log(sandbox: Sandbox, door: Door) -> None:
    """A filter that is ignored would let a reply look sent that was sent to somebody else."""
    created = await sandbox.provision(door.url)
    await sandbox.text("in")
    await sandbox.send(created["token"], TWILIO | {"Body": "mine"})
    await sandbox.send(created["token"], {"To": "+15005550124", "Body": "other"})
    today = datetime.now(UTC).date()

    async def bodies(where: str) -> set[str]:
        rows = await log(sandbox, created["token"], f"?where={quote(where)}")
        return {row["body"] for row in rows}

    every = {"in", "mine", "other"}
    assert await bodies(f"DateSent='{today}'") == every
    assert await bodies(f"DateSent='{today}T00:00:00Z'") == every
    assert await bodies(f"DateSent='{today - timedelta(days=2)}'") == set()
    assert await bodies(f"DateSent>='{today}'") == every
    assert await bodies(f"date_sent < '{today}'") == set()
    assert await bodies(f"To='{THEIRS}'") == {"mine"}
    assert await bodies(f"to = '{THEIRS}' and DateSent='{today}'") == {"mine"}
    assert await bodies(f"From='{THEIRS}' AND To='{OURS}'") == {"in"}


@pytest.mark.parametrize(
    ("since", "fails"),
    [
        ("2.164", []),
        ("2.148", ["DateSent>='2026-01-31'", "DateSent<='2026-01-31' and to='+1'"]),
        (
            "2.147",
            [
                "DateSent>='2026-01-31'",
                "from='+1'",
                "To='+1'",
                "DateSent<='2026-01-31' and to='+1'",
            ],
        ),
    ],
)
async def test_open_connectors_fact_20_what_a_release_does_not_understand_of_where_is_400(
    sandbox: Sandbox, since: str, fails: list[str]
) -> None:
    """A filter that a platform has not learnt yet would look as if it worked."""
    created = await sandbox.provision()
    await sandbox.switch(ceql=since)
    clauses = ["", "DateSent='2026-01-31'", "DateSent>='2026-01-31'", "from='+1'", "To='+1'"]
    clauses += ["DateSent<='2026-01-31' and to='+1'"]
    path = f"{BASE}/hubs/messaging/messages?where="

    answers = {
        clause: await sandbox.ask("GET", path + quote(clause), instance(created["token"]))
        for clause in clauses
    }

    assert [clause for clause, answer in answers.items() if answer.status != 200] == fails
    assert {answers[clause].status for clause in fails} <= {400}


@pytest.mark.parametrize(
    "where",
    ["Colour='red'", "DateSent=", "DateSent='soon'", "To>'+1'", "To='+1", "body='hi'", "and"],
)
async def test_a_where_that_can_not_be_read_is_400_and_names_its_instance(
    sandbox: Sandbox, where: str
) -> None:
    """A mistake in a filter would look like a log without messages."""
    created = await sandbox.provision()
    path = f"{BASE}/hubs/messaging/messages?where={quote(where)}"

    answer = await sandbox.ask("GET", path, instance(created["token"]))

    assert answer.status == 400
    assert "where clause" in answer.json["message"]
    assert answer.headers["elements-element-instance-id"] == str(created["id"])


async def test_one_message_is_found_by_its_sid(sandbox: Sandbox) -> None:
    """A message's fate could not be looked up."""
    created = await sandbox.provision()
    sent = (await sandbox.send(created["token"])).json
    path = f"{BASE}/hubs/messaging/messages"

    found = await sandbox.ask("GET", f"{path}/{sent['sid']}", instance(created["token"]))
    missing = await sandbox.ask("GET", f"{path}/SM0", instance(created["token"]))

    assert found.json["sid"] == sent["sid"]
    assert missing.status == 404
    assert missing.json["providerMessage"].startswith("20404")


async def test_ping_needs_a_living_instance(sandbox: Sandbox) -> None:
    """A check of the instance would always succeed, or never."""
    created = await sandbox.provision()

    right = await sandbox.ask("GET", f"{BASE}/ping", instance(created["token"]))
    wrong = await sandbox.ask("GET", f"{BASE}/ping", instance("wrong"))

    assert (right.status, wrong.status) == (200, 401)


# --- trouble ----------------------------------------------------------------------------------


async def test_trouble_answers_with_an_error_for_as_many_sends_as_asked(sandbox: Sandbox) -> None:
    """Fault tests would run without a fault."""
    created = await sandbox.provision()
    await sandbox.trouble(status=429, count=2, retry_after_s=3)

    answers = [await sandbox.send(created["token"]) for _ in range(3)]

    assert [each.status for each in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "3"
    assert len((await sandbox.records())["replies"]) == 1


async def test_trouble_without_end_lasts_until_it_is_switched_off(sandbox: Sandbox) -> None:
    """An outage in a test would end by itself."""
    created = await sandbox.provision()
    await sandbox.trouble(status=500, count=-1)
    during = [(await sandbox.send(created["token"])).status for _ in range(3)]
    await sandbox.trouble(count=0)

    assert during == [500] * 3
    assert (await sandbox.send(created["token"])).status == 200


async def test_trouble_can_be_slow_after_it_has_accepted(sandbox: Sandbox) -> None:
    """A process could not be killed between the POST and its answer."""
    created = await sandbox.provision()
    await sandbox.trouble(latency_ms=400)

    sending = asyncio.create_task(sandbox.send(created["token"]))
    while not (await sandbox.records())["replies"]:
        await asyncio.sleep(0.01)
    answered_too_early = sending.done()

    assert (await sending).status == 200
    assert not answered_too_early


@pytest.mark.parametrize("where", ["instances", "log"])
async def test_trouble_can_be_meant_for_other_calls_than_sends(
    sandbox: Sandbox, where: str
) -> None:
    """What happens when the log or the platform fails could not be tried."""
    created = await sandbox.provision()
    await sandbox.trouble(status=503, count=1, where=where)

    assert (await sandbox.send(created["token"])).status == 200
    if where == "log":
        path, secrets = f"{BASE}/hubs/messaging/messages", instance(created["token"])
    else:
        path, secrets = f"{BASE}/instances", PLATFORM
    statuses = [(await sandbox.ask("GET", path, secrets)).status for _ in range(2)]
    assert statuses == [503, 200]


async def test_trouble_can_accept_and_then_cut_the_connection(sandbox: Sandbox) -> None:
    """A reply in doubt could not be produced."""
    created = await sandbox.provision()
    await sandbox.trouble(reset=True)

    with pytest.raises(aiohttp.ClientError):
        await sandbox.send(created["token"])

    assert len((await sandbox.records())["replies"]) == 1
    assert (await sandbox.send(created["token"])).status == 200


async def test_trouble_can_leave_a_send_unanswered_and_unaccepted(sandbox: Sandbox) -> None:
    """A time-out of a reply that was not sent could not be produced."""
    created = await sandbox.provision()
    await sandbox.trouble(hang=True)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sandbox.send(created["token"]), 0.3)

    assert (await sandbox.records())["replies"] == []
    assert (await sandbox.send(created["token"])).status == 200


@pytest.mark.parametrize(
    "switches",
    [{"status": 200}, {"latency_ms": -1}, {"count": -2}, {"latency": 5}, {"hang": "yes"}],
    ids=str,
)
async def test_a_switch_that_makes_no_sense_is_refused(
    sandbox: Sandbox, switches: dict[str, Any]
) -> None:
    """A fault test with a typing error would pass without a fault."""
    answer = await sandbox.ask("POST", "/sandbox/trouble", body=switches)

    assert answer.status == 400
