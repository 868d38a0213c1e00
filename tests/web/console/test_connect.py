"""Connect: what is typed, checked, planned and applied on its pages, beside the real sandbox."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import httpx
import pytest

from service.core.sealing import Sealer
from service.operate import console
from service.operate.audit import trail
from service.operate.setup import Setup
from service.store.setups import Setups
from service.web.internal.app import Check
from tests.connector.pieces import AUTH_TOKEN, ORGANIZATION, OURS, USER, running_sandbox
from tests.present import present
from tests.web.console.conftest import BARE, Desk, Open, field_of
from tests.web.console.test_live import blocks, next_with

pytestmark = pytest.mark.anyio

ACCOUNT = f"AC{'0' * 32}"
AWAY = "http://127.0.0.1:1/elements/api-v2"


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    """The base address of a sandbox of the test's own."""
    async with running_sandbox() as address:
        yield address


def access_of(base_url: str) -> dict[str, str]:
    """What the first step asks for."""
    return {
        "region": "own",
        "open_connectors_base_url": base_url,
        "open_connectors_user_secret": USER,
        "open_connectors_organization_secret": ORGANIZATION,
    }


TWILIO = {
    "twilio_account_sid": ACCOUNT,
    "twilio_auth_token": AUTH_TOKEN,
    "twilio_auth_token_secondary": "",
    "twilio_sender": OURS,
}
PLAN = "/console/connect/review?plan"

INSTANCE = {"connector_element": "twilio", "instance_name": "Parley", "instance_tag": "parley"}


async def send(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """Send a form of Connect."""
    page = await browser.get("/console/sessions")
    form = {"csrf": field_of(page.text, "csrf")} | fields
    if path == "apply" and "seen" not in fields:
        form["seen"] = await shown_state(browser)
    return await browser.post(f"/console/connect/{path}", data=form)


async def shown_state(browser: httpx.AsyncClient) -> str:
    """Return what the page with the plan says that it is of."""
    found = re.search(r'name="seen" value="([^"]*)"', (await browser.get(PLAN)).text)
    return found[1] if found else ""


async def fill(browser: httpx.AsyncClient, base_url: str) -> None:
    """Type all there is to type."""
    for step, fields in (("access", access_of(base_url)), ("twilio", TWILIO)):
        answer = await send(browser, step, **fields)
        assert answer.status_code == 303, words(answer)
    assert (await send(browser, "instance", **INSTANCE)).status_code == 303


async def begins(browser: httpx.AsyncClient) -> str:
    """Return the page that Connect leads to."""
    answer = await browser.get("/console/connect")
    assert answer.status_code == 303
    return str(answer.headers["location"].rpartition("/")[2])


def words(answer: httpx.Response) -> str:
    """Return what a page says, without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", answer.text)))


def problem_at(answer: httpx.Response, field: str) -> str:
    """Return what a page says is wrong with a field; "" for nothing."""
    found = re.search(
        rf'<p class="problem" id="{field}-problem" role="alert">(.*?)</p>', answer.text, re.DOTALL
    )
    text = unescape(re.sub(r"<[^>]*>", "", found[1])) if found else ""
    return re.sub(r"\s+", " ", text).strip()


def value_at(answer: httpx.Response, field: str) -> str:
    """Return what is written in a field of a page."""
    found = re.search(rf'<input id="{field}"[^>]* value="([^"]*)"', answer.text)
    assert found is not None, answer.text
    return unescape(found[1])


def setups(desk: Desk) -> Setups:
    """Read what the deployment keeps."""
    return Setups(desk.redis, Sealer((BARE["SECRET_KEY"],)))


async def test_it_leads_from_step_to_step_to_a_setup_in_use(open_desk: Open, base_url: str) -> None:
    """Nobody could set the service up by its pages."""
    told: list[str] = []
    desk = await open_desk(changed=lambda: told.append("changed"))
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        seen = [await browser.get("/console")]
        assert await begins(browser) == "access"
        answer = await send(browser, "access", **access_of(base_url))
        assert answer.headers["location"] == "/console/connect/twilio"
        assert await begins(browser) == "twilio"
        answer = await send(browser, "twilio", **TWILIO)
        assert answer.headers["location"] == "/console/connect/instance"
        seen.append(await browser.get("/console/connect/instance"))
        assert "https://sms.example.com/callbacks/twilio" in words(seen[-1])
        answer = await send(browser, "instance", **INSTANCE)
        assert answer.headers["location"] == "/console/connect/review"
        assert await begins(browser) == "review"
        seen.append(await browser.get("/console/connect/review?plan"))
        assert "create an instance" in words(seen[-1])
        assert "messaging.sms.twilio.token: (none) -> ********" in words(seen[-1])
        assert await setups(desk).version() == 0
        assert told == []

        answer = await send(browser, "apply")
        assert answer.headers["location"] == "/console/connect/done"
        assert told == ["changed"]
        seen += [
            await browser.get(f"/console/connect/{step}")
            for step in ("access", "twilio", "instance", "review", "done")
        ]
        assert await begins(browser) == "done"
    kept = await setups(desk).current()
    assert kept is not None
    assert kept.version == 1
    assert kept.values["open_connectors_base_url"] == base_url
    assert kept.values["twilio_auth_token"] == AUTH_TOKEN
    (act, *_) = await trail(desk.redis)
    assert (act.what, act.via) == ("connect", "console")
    assert act.who.startswith("operator by one-time address, session ")
    for page in seen:
        assert not [each for each in (USER, ORGANIZATION, AUTH_TOKEN) if each in page.text]


async def test_what_is_missing_is_told_at_its_field_once_somebody_goes_on(operator: Any) -> None:
    """The page would scold before anything was typed, or not say what it wants."""
    page = await operator.get("/console/connect/twilio")
    assert problem_at(page, "twilio_account_sid") == ""
    answer = await send(operator, "twilio", twilio_sender=OURS)
    assert answer.status_code == 400
    assert problem_at(answer, "twilio_account_sid") == (
        "Account SID is missing; the connector asks for it as messaging.sms.twilio.account."
    )
    assert "messaging.sms.twilio.token" in problem_at(answer, "twilio_auth_token")
    assert problem_at(answer, "twilio_sender") == ""
    first = await send(operator, "access")
    assert problem_at(first, "open_connectors_base_url").startswith("Choose a region")


async def test_nothing_typed_is_lost_by_a_mistake_a_reload_or_a_new_sign_in(
    desk: Any, operator: Any
) -> None:
    """Whoever mistypes one of four would type all of them again."""
    odd = '"><script>alert(1)</script>'
    answer = await send(
        operator, "twilio", **(TWILIO | {"twilio_account_sid": odd, "twilio_sender": "0150 123"})
    )
    assert answer.status_code == 400
    async with desk.browser() as again:
        await desk.sign_in(again)
        for page in (answer, await again.get("/console/connect/twilio")):
            assert "<script>alert" not in page.text
            assert value_at(page, "twilio_account_sid") == odd
            assert value_at(page, "twilio_sender") == "0150 123"
            assert problem_at(page, "twilio_account_sid").startswith("This is not an account SID")
            assert problem_at(page, "twilio_sender").startswith("This is not a sender")
            assert value_at(page, "twilio_auth_token") == ""
            assert AUTH_TOKEN not in page.text
            assert "Typed, and kept sealed. Leave it empty to keep it." in words(page)
        # The secret stays when it is left empty.
        rest = {**TWILIO, "twilio_auth_token": ""}
        assert (await send(again, "twilio", **rest)).status_code == 303


async def test_a_region_of_the_list_stands_for_its_address(operator: Any) -> None:
    """Somebody would look up an address that the page knows."""
    typed = {**access_of("https://other.example.com/x"), "region": "us2"}
    assert (await send(operator, "access", **typed)).status_code == 303
    page = await operator.get("/console/connect/access")
    assert re.search(r'value="us2" checked', page.text)
    assert value_at(page, "open_connectors_base_url") == ""
    review = await operator.get("/console/connect/review")
    assert re.search(
        r'title="https://api.openconnectors.us2.ext.hana.ondemand.com/elements/api-v2">US2<',
        review.text,
    )


async def test_check_asks_the_connector(operator: Any, base_url: str) -> None:
    """Wrong secrets would be noticed three steps later."""
    answer = await send(operator, "access/check", **access_of(base_url))
    assert answer.status_code == 200
    assert "Open Connectors takes these secrets" in words(answer)

    wrong = access_of(base_url) | {"open_connectors_user_secret": "not-this-one"}
    answer = await send(operator, "access/check", **wrong)
    said = problem_at(answer, "open_connectors_user_secret")
    assert answer.status_code == 400
    assert said.startswith("Open Connectors answered 401: ")
    assert re.search(r"Its requestId is [0-9a-f]+\.$", said), said
    assert "not-this-one" not in answer.text

    answer = await send(operator, "access/check", **access_of(AWAY))
    assert answer.status_code == 400
    assert problem_at(answer, "open_connectors_base_url") != ""
    assert value_at(answer, "open_connectors_base_url") == AWAY

    answer = await send(operator, "access/check", open_connectors_base_url="http://sap.com")
    assert "must begin with https://" in problem_at(answer, "open_connectors_base_url")


async def test_a_field_is_checked_and_kept_as_it_is_typed(desk: Any, operator: Any) -> None:
    """Who types with a script would learn of a mistake at the end of the page, or lose it all."""
    page = await operator.get("/console/sessions")
    answer = await operator.post(
        "/console/connect/twilio",
        data={"csrf": field_of(page.text, "csrf"), "twilio_sender": "0150 123"},
        headers={"accept": "application/json"},
    )
    found = answer.json()
    assert answer.status_code == 200
    assert found["twilio_sender"][0].startswith("This is not a sender")
    assert found["twilio_account_sid"] == []  # Nobody has come to it yet.
    draft = await setups(desk).draft()
    assert draft is not None
    assert draft.values == {"twilio_sender": "0150 123"}


async def test_what_settings_give_is_shown_with_where_and_is_not_typed(
    open_desk: Open, base_url: str
) -> None:
    """Somebody would type a token that is never used, and wonder."""
    desk = await open_desk(environ={"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "TWILIO_SENDER": OURS})
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        page = await browser.get("/console/connect/twilio")
        assert 'name="twilio_sender"' not in page.text
        assert 'name="twilio_auth_token"' not in page.text
        assert "Given by the environment variable TWILIO_SENDER , which wins" in words(page)
        assert OURS in page.text
        assert AUTH_TOKEN not in page.text
        await fill(browser, base_url)
        await send(browser, "twilio", twilio_sender="+15005550199")
        draft = await setups(desk).draft()
        assert draft is not None
        assert "twilio_sender" not in draft.values
        review = await browser.get("/console/connect/review?plan")
        assert f"messaging.sms.twilio.sender: (none) -> '{OURS}'" in words(review)


async def test_an_address_that_settings_give_wrongly_is_no_region(open_desk: Open) -> None:
    """Whoever has set the address would be asked for it."""
    address = "https://api.openconnectors.us2.ext.hana.ondemand.com/elements/api-v2"
    desk = await open_desk(environ={"OPEN_CONNECTORS_BASE_URL": address})
    async with desk.browser() as browser:
        await desk.sign_in(browser)
        page = await browser.get("/console/connect/access")
        assert 'type="radio"' not in page.text
        assert address in page.text


async def test_a_viewer_sees_the_steps_and_writes_nothing(
    desk: Any, operator: Any, viewer: Any, base_url: str
) -> None:
    """Who may only look would change what texts are answered with."""
    await fill(operator, base_url)
    for step in ("access", "twilio", "instance", "review?plan"):
        page = await viewer.get(f"/console/connect/{step}")
        assert page.status_code == 200
        main = page.text.partition("<main")[2].partition("</main>")[0]
        assert not re.findall(r"<input|<button|<form", main)
        assert "This session is a viewer’s" in words(page)
    assert "create an instance" in words(page)
    for path in ("access", "access/check", "twilio/retire", "apply", "discard"):
        answer = await send(viewer, path, **access_of(base_url))
        assert answer.status_code == 403
    assert await setups(desk).version() == 0


@pytest.mark.parametrize("field", ["twilio_account_sid", "twilio_sender"])
async def test_a_viewer_is_not_shown_what_is_typed_wrongly(
    operator: Any, viewer: Any, field: str
) -> None:
    """An auth token that was pasted into the wrong field would stand on their page."""
    await send(operator, "twilio", **{**TWILIO, field: AUTH_TOKEN})
    for step in ("twilio", "review"):
        assert AUTH_TOKEN in (await operator.get(f"/console/connect/{step}")).text
        page = await viewer.get(f"/console/connect/{step}")
        assert AUTH_TOKEN not in page.text
        assert "Typed, and wrong" in words(page)
    other = {"twilio_account_sid": OURS, "twilio_sender": ACCOUNT}[field]
    assert other in words(page)  # What is right is shown.


async def test_a_live_page_shows_no_sender_that_is_typed_wrongly(
    operator: Any, viewer: Any, base_url: str
) -> None:
    """It goes on showing what is typed, to viewers as well."""
    await fill(operator, base_url)
    await send(operator, "apply")
    async with viewer.stream("GET", "/console/connect/done/live") as response:
        stream = blocks(response)
        assert OURS in await anext(stream)
        await send(operator, "twilio", twilio_sender=AUTH_TOKEN)
        assert AUTH_TOKEN not in await next_with(stream, "wrong at the moment")


@pytest.mark.parametrize("path", ["access", "access/check", "twilio/retire", "apply", "discard"])
async def test_what_acts_takes_forms_of_the_session_alone(
    desk: Any, operator: Any, base_url: str, path: str
) -> None:
    """Another site's page would apply a setup of its own, or what somebody had only typed."""
    await fill(operator, base_url)
    await send(operator, "apply")
    await send(operator, "twilio", twilio_auth_token="another-token-0123456789")
    await send(operator, "apply")
    await send(operator, "instance", **INSTANCE | {"instance_name": "Desk"})
    seen, kept = await shown_state(operator), await setups(desk).current()
    assert kept is not None
    assert kept.values["twilio_auth_token_secondary"] == AUTH_TOKEN
    draft = await setups(desk).draft()
    assert draft is not None
    answer = await operator.post(f"/console/connect/{path}", data=access_of("https://a.example"))
    assert answer.status_code == 403
    assert (await setups(desk).current(), await setups(desk).draft()) == (kept, draft)
    # Nor is it done by looking at it.
    form = access_of("https://a.example") | {"seen": seen}
    csrf = field_of((await operator.get("/console/sessions")).text, "csrf")
    looked = await operator.get(f"/console/connect/{path}", params=form | {"csrf": csrf})
    assert looked.status_code == (200 if path == "access" else 404)
    assert (await setups(desk).current(), await setups(desk).draft()) == (kept, draft)


async def test_the_plan_comes_by_itself(operator: Any, browser: Any, base_url: str) -> None:
    """The page would wait for the connector before it shows anything."""
    assert (await browser.get("/console/connect/review/plan")).status_code == 401
    await fill(operator, base_url)
    page = await operator.get("/console/connect/review")
    assert 'hx-get="/console/connect/review/plan"' in page.text
    assert "create an instance" not in page.text
    part = await operator.get("/console/connect/review/plan")
    assert "create an instance" in words(part)
    assert "<html" not in part.text
    assert 'action="/console/connect/apply"' in part.text


async def test_what_the_connector_refuses_is_not_put_in_use(
    desk: Any, operator: Any, base_url: str
) -> None:
    """A service that answers would stop, for a secret that was mistyped."""
    await fill(operator, base_url)
    await send(operator, "access", open_connectors_organization_secret="mistyped")
    # The plan fails, so that no page offers to apply it: somebody revoked the secret since.
    state = await Setup(desk.redis, present(desk.deployment.given)).look()
    answer = await send(operator, "apply", seen=state.seen)
    assert answer.status_code == 400
    assert "User secret. Open Connectors answered 401: " in words(answer)
    assert "Its requestId is" in words(answer)
    assert 'href="/console/connect/access?ask#open_connectors_user_secret"' in answer.text
    assert await setups(desk).version() == 0
    page = await operator.get("/console/connect/access?ask")
    assert "answered 401" in problem_at(page, "open_connectors_user_secret")
    assert "mistyped" not in page.text + answer.text
    without = await operator.get("/console/connect/access")
    assert problem_at(without, "open_connectors_user_secret") == ""


async def test_a_new_auth_token_leaves_the_former_accepted_until_it_is_retired(
    desk: Any, operator: Any, base_url: str
) -> None:
    """Texts that Twilio signs with the old token would be refused, or taken for ever."""
    await fill(operator, base_url)
    await send(operator, "apply")
    refused = await send(operator, "twilio/retire")
    assert (refused.status_code, "no former auth token" in words(refused)) == (409, True)

    await send(operator, "twilio", twilio_auth_token="another-token-0123456789")
    review = await operator.get("/console/connect/review?plan")
    assert "Auth Token New" in words(review)
    assert "The former auth token is accepted as well, until you retire it." in words(review)
    await send(operator, "apply")
    kept = await setups(desk).current()
    assert kept is not None
    assert kept.values["twilio_auth_token_secondary"] == AUTH_TOKEN
    page = await operator.get("/console/connect/twilio")
    assert "Retire the former token" in words(page)

    answer = await send(operator, "twilio/retire")
    assert answer.headers["location"] == "/console/connect/twilio"
    assert "Retire the former token" not in words(await operator.get("/console/connect/twilio"))
    kept = await setups(desk).current()
    assert kept is not None
    assert kept.version == 3
    assert "twilio_auth_token_secondary" not in kept.values
    (act, *_) = await trail(desk.redis)
    assert (act.what, act.via) == ("connect --retire-token", "console")


async def test_what_was_typed_can_be_discarded(desk: Any, operator: Any, base_url: str) -> None:
    """Who changes their mind would have to remember what was there."""
    await fill(operator, base_url)
    await send(operator, "apply")
    await send(operator, "twilio", twilio_sender="+15005550199")
    page = await operator.get("/console/connect/twilio")
    assert "Changes that are not in use yet" in words(page)
    assert (await send(operator, "discard")).status_code == 303
    page = await operator.get("/console/connect/twilio")
    assert value_at(page, "twilio_sender") == OURS
    assert "Changes that are not in use yet" not in words(page)
    assert await setups(desk).draft() is None


async def test_what_comes_next_is_live(desk: Any, operator: Any, base_url: str) -> None:
    """Whoever has applied would look at what was true a minute ago."""
    early = await operator.get("/console/connect/done")
    assert early.headers["location"] == "/console/connect/access"
    await fill(operator, base_url)
    await send(operator, "apply")
    desk.checks = {
        "setup": Check(ok=True, detail="version 1"),
        "instance": Check(ok=False, detail="run `parley connector <plan>`"),
    }
    page = await operator.get("/console/connect/done")
    assert "Connecting" in words(page)
    assert "<code>parley connector &lt;plan&gt;</code>" in page.text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page.text
    assert f'href="sms:{OURS}"' in page.text
    async with operator.stream("GET", "/console/connect/done/live") as response:
        stream = blocks(response)
        assert "Connecting" in await anext(stream)
        desk.checks["instance"] = Check(ok=True, detail="instance 714")
        assert "Instance 714" in await next_with(stream, "Connected")
        (session,) = await console.sessions(desk.redis)
        await console.end_session(desk.redis, session.id)
        assert "signed-out" in await next_with(stream, "signed-out")


async def test_a_setup_that_no_process_uses_yet_is_not_called_connected(
    desk: Any, operator: Any, base_url: str
) -> None:
    """Who has changed a token would text before it counts, or wait for one that never does."""
    await fill(operator, base_url)
    await send(operator, "apply")
    for detail, connected in (
        ("version 1", True),
        ("version 0", False),
        ("setup 1 can't be used: another SECRET_KEY", False),
    ):
        desk.checks = {"setup": Check(ok=True, detail=detail)}
        await asyncio.sleep(1.1)  # A look serves for a second.
        page = words(await operator.get("/console/connect/done"))
        assert ("Connected" in page) == connected, detail
        assert ("Connecting" in page) != connected, detail


async def test_the_live_page_goes_on_while_the_setup_cannot_be_read(
    desk: Any, operator: Any, base_url: str
) -> None:
    """A change of SECRET_KEY would end the page instead of being told on it."""
    await fill(operator, base_url)
    await send(operator, "apply")
    async with operator.stream("GET", "/console/connect/done/live") as response:
        stream = blocks(response)
        await anext(stream)
        await Setups(desk.redis, Sealer(("another" * 8,))).keep({}, who="somebody", after=1)
        desk.checks = {"setup": Check(ok=False, detail="another SECRET_KEY")}
        assert "Version 2" in await next_with(stream, "Another SECRET_KEY")


async def test_a_setup_that_no_key_opens_is_told_and_typed_anew(
    desk: Any, operator: Any, base_url: str
) -> None:
    """A lost SECRET_KEY would leave pages that only say what is wrong."""
    await Setups(desk.redis, Sealer(("another" * 8,))).keep({}, who="somebody", after=0)
    answer = await operator.get("/console/connect/access")
    assert answer.status_code == 200
    assert "SECRET_KEY is not the one the setup in Redis was sealed with" in words(answer)
    assert "What is typed here takes its place" in words(answer)
    await fill(operator, base_url)
    assert (await send(operator, "apply")).status_code == 303
    assert "takes its place" not in words(await operator.get("/console/connect/access"))


async def test_the_overview_leads_to_it_while_the_service_is_not_set_up(
    desk: Any, operator: Any
) -> None:
    """Somebody who has just started it would see that it is not ready, and nothing to do."""
    link = '<a class="button" href="/console/connect">Connect</a>'
    assert link not in (await operator.get("/console")).text
    desk.checks = {"setup": Check(ok=False, detail="not set up: run `parley console`")}
    await asyncio.sleep(1.1)  # A look serves for a second.
    assert link in (await operator.get("/console")).text


async def test_what_somebody_else_typed_after_the_plan_was_shown_is_not_applied(
    desk: Desk, operator: Any, base_url: str
) -> None:
    """Who presses Apply would put credentials in use that they have never seen the plan of."""
    await fill(operator, base_url)
    seen = await shown_state(operator)
    async with desk.browser() as other:
        await desk.sign_in(other)
        assert (await send(other, "instance", **INSTANCE | {"instance_name": "Desk"})).is_redirect
    answer = await send(operator, "apply", seen=seen)
    assert answer.status_code == 409
    assert "look at the plan again" in words(answer)
    assert (await send(operator, "apply", seen="")).status_code == 409
    assert (await send(operator, "apply")).status_code == 303


async def test_signed_out_each_page_is_come_back_to(browser: Any) -> None:
    """Who signs in again would have to find the step."""
    for step in ("access", "review", "done"):
        answer = await browser.get(f"/console/connect/{step}")
        assert answer.headers["location"].endswith(f"next=%2Fconsole%2Fconnect%2F{step}")
    answer = await browser.post("/console/connect/twilio", data=TWILIO)
    assert answer.headers["location"].endswith("next=%2Fconsole%2Fconnect%2Ftwilio")
    answer = await browser.post("/console/connect/apply")
    assert answer.headers["location"] == "/console/sign-in"
    assert (await browser.get("/console/connect/done/live")).status_code == 401


async def test_there_is_no_other_step(operator: Any) -> None:
    """A mistyped address would fail."""
    assert (await operator.get("/console/connect/secrets")).status_code == 404
    assert (await send(operator, "secrets")).status_code == 404
