"""Connect's pages in a real browser, with a script: what is typed is checked and kept at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import ConsoleMessage, Page, Route, async_playwright, expect

from service.operate import console
from service.web.internal.app import Check
from tests.connector.pieces import AUTH_TOKEN, OURS, running_sandbox
from tests.flow.browser import AXE, FLAGS, OVERFLOW, VIOLATIONS
from tests.programs import program
from tests.web.console.conftest import Desk
from tests.web.console.test_connect import ACCOUNT, TWILIO, access_of, fill, send, setups

pytestmark = pytest.mark.anyio

OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_page(desk: Desk) -> AsyncIterator[OpenPage]:
    """Open a page of headless Chromium that an operator is signed in with; options: its window's.

    role: another one. expected: what the browser may report besides.
    """
    chromium = program("chromium", "chromium-browser", package="chromium")
    problems: list[str] = []
    # A page that says what is wrong has such a status, and the browser tells of it.
    tolerated = ["the server responded with a status of 40"]

    def tell(line: ConsoleMessage) -> None:
        if line.type == "error" and not any(each in line.text for each in tolerated):
            problems.append(line.text)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        async def start(
            role: console.Role = "operator", expected: tuple[str, ...] = (), **options: Any
        ) -> Page:
            tolerated.extend(expected)
            usual = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
            context = await browser.new_context(base_url=desk.url, **(usual | options))
            page = await context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", tell)
            token = await console.make_token(desk.redis, role)
            await page.goto(f"/console/sign-in?token={token}")
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
            return page

        yield start
        await browser.close()
    assert problems == [], "the page reported errors"


async def kept_of(desk: Desk, field: str) -> str:
    """Return what the draft has of a field."""
    draft = await setups(desk).draft()
    return draft.values.get(field, "") if draft else ""


async def test_a_mistake_is_told_when_the_field_is_left_and_goes_as_it_is_mended(
    desk: Any, open_page: OpenPage
) -> None:
    """Whoever types would be scolded at the first letter, or learn of it at the end of the page."""
    page = await open_page()
    await page.goto("/console/connect/twilio")
    sender, problem = page.get_by_label("Sender"), page.locator("#twilio_sender-problem")
    await sender.press_sequentially("+1500")
    await page.wait_for_timeout(700)
    await expect(problem).to_be_hidden()
    await page.get_by_label("Account SID").focus()
    await expect(problem).to_contain_text("This is not a sender")
    await expect(sender).to_have_attribute("aria-invalid", "true")
    await sender.fill(OURS)
    await expect(problem).to_be_hidden()
    await expect(sender).not_to_have_attribute("aria-invalid", "true")


async def test_what_is_typed_is_kept_before_anything_is_sent(
    desk: Any, open_page: OpenPage
) -> None:
    """A reload, or a session that ended meanwhile, would lose a page of typing."""
    page = await open_page()
    await page.goto("/console/connect/twilio")
    await page.get_by_label("Account SID").fill(ACCOUNT)
    await page.get_by_label("Auth Token", exact=True).fill(AUTH_TOKEN)
    await page.get_by_label("Sender").fill("0150 123")
    await page.get_by_label("Account SID").focus()
    await expect(page.locator("#twilio_sender-problem")).to_be_visible()
    assert await kept_of(desk, "twilio_auth_token") == AUTH_TOKEN
    await page.reload()
    await expect(page.get_by_label("Account SID")).to_have_value(ACCOUNT)
    await expect(page.get_by_label("Sender")).to_have_value("0150 123")
    await expect(page.get_by_label("Auth Token", exact=True)).to_have_value("")
    await expect(page.locator("#twilio_auth_token-hint")).to_contain_text("kept sealed")

    (session,) = await console.sessions(desk.redis)
    await console.end_session(desk.redis, session.id)
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to Parley")
    token = await console.make_token(desk.redis)
    await page.get_by_label("One-time address").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=2, name="Twilio")).to_be_visible()
    await expect(page.get_by_label("Account SID")).to_have_value(ACCOUNT)


async def end_sessions(desk: Desk) -> None:
    """End every session, as an hour's idleness does."""
    for session in await console.sessions(desk.redis):
        await console.end_session(desk.redis, session.id)


async def sign_in_again(page: Page, desk: Desk, role: console.Role = "operator") -> None:
    """Sign in on the page where one is asked to."""
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to Parley")
    await page.get_by_label("One-time address").fill(await console.make_token(desk.redis, role))
    await page.get_by_role("button", name="Sign in").click()


async def kept_in_tab(page: Page) -> str:
    """Return all that the tab keeps of what was typed."""
    return str(await page.evaluate("JSON.stringify(sessionStorage)"))


async def test_what_is_typed_after_the_session_ended_is_back_after_signing_in(
    desk: Any, open_page: OpenPage
) -> None:
    """It went nowhere, and nobody was told."""
    page = await open_page()
    await page.goto("/console/connect/twilio")
    sender, account = page.get_by_label("Sender"), page.get_by_label("Account SID")
    await sender.fill("+15005550000")
    await expect(page.get_by_text("You are signed out")).to_be_hidden()
    await account.focus()
    async with asyncio.timeout(10):
        while await kept_in_tab(page) != "{}":  # Until the draft has it.
            await asyncio.sleep(0.05)
    await end_sessions(desk)
    await sender.fill(OURS)
    await page.get_by_label("Auth Token", exact=True).fill(AUTH_TOKEN)
    await account.focus()
    await expect(page.get_by_text("You are signed out")).to_be_visible()
    await look(page, "signed out")
    assert OURS in await kept_in_tab(page)
    assert AUTH_TOKEN not in await kept_in_tab(page)
    await page.locator("main").get_by_role("link", name="Sign in").click()
    await sign_in_again(page, desk)

    await expect(page).to_have_url(re.compile("/console/connect/twilio$"))
    await expect(page.get_by_text("What you had typed is back.")).to_be_visible()
    await expect(sender).to_have_value(OURS)
    assert await kept_of(desk, "twilio_sender") == "+15005550000"
    await account.fill(ACCOUNT)
    await sender.focus()
    await expect(page.get_by_text("What you had typed is back.")).to_be_hidden()
    assert await kept_of(desk, "twilio_account_sid") == ACCOUNT
    assert await kept_of(desk, "twilio_sender") == OURS
    assert OURS not in await kept_in_tab(page)


async def test_a_form_that_is_sent_after_the_session_ended_is_back(
    desk: Any, open_page: OpenPage
) -> None:
    """Continue would lead to signing in, and back to what was typed before."""
    page = await open_page()
    await page.goto("/console/connect/access")
    await end_sessions(desk)
    await page.get_by_label("Another").check()
    address = page.get_by_role("textbox", name="Base address")
    await address.fill("https://sap.example.com/elements/api-v2")
    await page.get_by_role("button", name="Continue").click()
    await sign_in_again(page, desk)
    await expect(address).to_have_value("https://sap.example.com/elements/api-v2")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#open_connectors_user_secret-problem")).to_be_visible()
    assert "sap.example.com" in await kept_of(desk, "open_connectors_base_url")
    assert "sap.example.com" not in await kept_in_tab(page)


async def test_what_could_not_be_kept_is_said_and_tried_again(
    desk: Any, open_page: OpenPage
) -> None:
    """A field that was sent while Redis was away would never be sent again."""
    page = await open_page(expected=("a status of 503",), viewport={"width": 320, "height": 844})
    await page.goto("/console/connect/twilio")
    away = True

    async def refuse(route: Route) -> None:
        if away and route.request.headers.get("accept") == "application/json":
            await route.fulfill(status=503, body="no Redis")
        else:
            await route.continue_()

    await page.route("**/console/connect/twilio", refuse)
    await page.get_by_label("Sender").fill(OURS)
    unkept = page.get_by_text("What you typed last is not kept yet")
    await expect(unkept).to_be_visible()
    assert await kept_of(desk, "twilio_sender") == ""
    away = False
    await expect(unkept).to_be_hidden(timeout=10_000)
    assert await kept_of(desk, "twilio_sender") == OURS

    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#twilio_account_sid-problem")).to_be_visible()
    away = True
    await page.get_by_label("Sender").fill("+15005550000")
    await expect(unkept).to_be_visible()
    await look(page, "not kept")
    await page.reload()  # Which sends once more what was sent before.
    await expect(page.get_by_label("Sender")).to_have_value("+15005550000")
    await page.get_by_label("Sender").fill("+15005550001")
    await expect(unkept).to_be_visible()
    await page.get_by_role("button", name="Discard").click()
    await page.goto("/console/connect/twilio")
    await expect(page.get_by_label("Sender")).to_have_value("")
    await expect(page.get_by_text("What you had typed is back.")).to_be_hidden()


async def test_a_form_that_is_sent_waits_for_what_is_under_way(
    desk: Any, open_page: OpenPage
) -> None:
    """What was typed first would be kept last, and take the place of what was sent."""
    page = await open_page()

    async def slowly(route: Route) -> None:
        if route.request.headers.get("accept") == "application/json":
            await asyncio.sleep(1)
        await route.continue_()

    await page.route("**/console/connect/twilio", slowly)
    await page.goto("/console/connect/twilio")
    for label, field in (
        ("Account SID", "twilio_account_sid"),
        ("Auth Token", "twilio_auth_token"),
        ("Sender", "twilio_sender"),
    ):
        await page.get_by_label(label, exact=True).fill(TWILIO[field])
    await page.get_by_label("Sender").press("Enter")
    await expect(page.get_by_role("heading", level=2, name="Instance")).to_be_visible()
    for field in ("twilio_account_sid", "twilio_auth_token", "twilio_sender"):
        assert await kept_of(desk, field) == TWILIO[field]


async def test_another_region_has_its_address_asked_for(desk: Any, open_page: OpenPage) -> None:
    """A field that nobody needs would stand in the way."""
    page = await open_page()
    await page.goto("/console/connect/access")
    address = page.get_by_role("textbox", name="Base address")
    await expect(address).to_be_hidden()
    await page.get_by_label("Another").check()
    await address.fill("https://sap.example.com")
    await page.get_by_label("User secret").focus()
    problem = page.locator("#open_connectors_base_url-problem")
    await expect(problem).to_contain_text("must end with /elements/api-v2")
    await page.get_by_label("Trial, US10").check()
    await expect(address).to_be_hidden()
    await expect(problem).to_be_hidden()
    assert "trial.us10" in await kept_of(desk, "open_connectors_base_url")


async def test_a_plan_that_does_not_come_is_asked_for_by_hand(
    desk: Any, operator: Any, open_page: OpenPage
) -> None:
    """The page would look as if it were still asking."""
    page = await open_page(expected=("a status of 503", "htmx"))
    async with running_sandbox() as base_url:
        await fill(operator, base_url)
        await page.route("**/review/plan", lambda route: route.fulfill(status=503, body="no"))
        await page.goto("/console/connect/review")
        again = page.get_by_role("link", name="Ask Open Connectors for the plan")
        await expect(again).to_be_visible()
        await expect(page.locator(".skeleton")).to_have_count(0)
        await again.click()
        await expect(page.locator(".plan-lines")).to_contain_text("create an instance")

        await page.unroute("**/review/plan")

        async def ended_meanwhile(route: Route) -> None:
            for session in await console.sessions(desk.redis):
                await console.end_session(desk.redis, session.id)
            await route.continue_()

        await page.route("**/review/plan", ended_meanwhile)
        await page.goto("/console/connect/review")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to Parley")


async def look(page: Page, where: str) -> None:
    """Look whether everybody can use a page, and nothing hangs over its edge."""
    assert await page.evaluate(OVERFLOW) <= 0, where
    # Through the debugger: the page's own policy lets no script of others run.
    session = await page.context.new_cdp_session(page)
    script = await asyncio.to_thread(Path(AXE).read_text, encoding="utf-8")
    await session.send("Runtime.evaluate", {"expression": script})
    found = await session.send(
        "Runtime.evaluate", {"expression": VIOLATIONS, "awaitPromise": True, "returnByValue": True}
    )
    assert json.loads(found["result"]["value"]) == [], where
    await session.detach()


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 320])
async def test_no_step_hangs_over_the_edge_or_shuts_anybody_out(
    desk: Any, operator: Any, open_page: OpenPage, scheme: str, width: int
) -> None:
    """A page that scrolls sideways, or has no contrast or names, can't be used."""
    page = await open_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    desk.checks = {
        "setup": Check(ok=True, detail="version 1"),
        "instance": Check(ok=False, detail="asks for it at https://" + "long." * 30),
    }
    async with running_sandbox() as base_url:
        for step in ("access", "twilio"):
            await page.goto(f"/console/connect/{step}")
            await look(page, step)
            await page.get_by_role("button", name="Continue").click()
            await expect(page.get_by_role("alert").first).to_be_visible()
            await look(page, f"{step}, nothing typed")
        await page.goto("/console/connect/review")
        await look(page, "review, nothing typed")
        await send(operator, "access/check", **access_of(base_url))
        await page.goto("/console/connect/access")
        await page.get_by_role("button", name="Check").click()
        await expect(page.locator("#answer")).to_be_visible()
        await look(page, "access, checked")
        await send(operator, "twilio", **TWILIO)
        await page.goto("/console/connect/instance")
        await look(page, "instance")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator(".plan-lines")).to_be_visible()
        await look(page, "review")
        await page.get_by_role("button", name="Apply").click()
        await expect(page.locator("#connection")).to_have_text("Live", timeout=15_000)
        await look(page, "what comes next")
        await send(operator, "twilio", twilio_auth_token="another-token-0123456789")
        await send(operator, "apply")
        await page.goto("/console/connect/twilio")
        retire = page.get_by_role("button", name=re.compile("Retire"))
        await expect(retire).to_be_visible()
        await look(page, "a token to retire")
        await send(operator, "access", open_connectors_user_secret="wrong")
        await page.goto("/console/connect/review")
        await expect(page.get_by_role("alert")).to_be_visible()
        await look(page, "review, refused")
        await page.get_by_role("link", name=re.compile("Go to")).click()
        await expect(page.locator("#open_connectors_user_secret-problem")).to_be_visible()
        await look(page, "access, refused")
        desk.checks = {"setup": Check(ok=False, detail="not set up: run `parley console`")}
        await page.goto("/console")
        await look(page, "the overview of what is not set up")


@pytest.mark.long
async def test_a_viewers_steps_shut_nobody_out(
    desk: Any, operator: Any, open_page: OpenPage
) -> None:
    """Who may only look could not read the page."""
    page = await open_page("viewer", viewport={"width": 390, "height": 844})
    async with running_sandbox() as base_url:
        await fill(operator, base_url)
        for step in ("access", "twilio", "instance", "review"):
            await page.goto(f"/console/connect/{step}")
            await look(page, step)
