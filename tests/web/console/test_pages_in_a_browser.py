"""The pages that ask the connector, in a real browser over the real sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright, expect

from service.core.open_connectors.hub_request import read_request
from service.operate import console
from service.operate.formulas import list_formulas
from service.operate.hub_requests import send
from tests.connector.pieces import OURS, THEIRS
from tests.flow.browser import AXE, FLAGS, OVERFLOW, VIOLATIONS
from tests.programs import program

pytestmark = [pytest.mark.anyio, pytest.mark.long]

TEMPLATE: dict[str, Any] = {
    "name": "Texts to CRM",
    "configuration": [
        {"key": "texts", "name": "Texts of", "type": "elementInstance"},
        {"key": "every", "name": "Minutes", "type": "value"},
    ],
}

TEXT = "Your table for four is booked on Friday at 19:30. Reply C to cancel, or M for more of it."

Open = Callable[..., Awaitable[Page]]
Look = Callable[[Page, str], Awaitable[None]]


@pytest.fixture
async def open_page(connected_desk: Any) -> AsyncIterator[Open]:
    """Open a page of headless Chromium, signed in as an operator; options: its window's."""
    chromium = program("chromium", "chromium-browser", package="chromium")
    problems: list[str] = []

    def tell(line: ConsoleMessage) -> None:
        # Pages that say what is wrong have such a status, and the browser tells of it.
        if line.type == "error" and "the server responded with a status of 4" not in line.text:
            problems.append(line.text)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        async def start(**options: Any) -> Page:
            usual: dict[str, Any] = {
                "viewport": {"width": 1440, "height": 900},
                "reduced_motion": "reduce",
                "base_url": connected_desk.url,
            }
            page = await (await browser.new_context(**(usual | options))).new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", tell)
            token = await console.make_token(connected_desk.redis)
            await page.goto(f"/console/sign-in?token={token}")
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
            return page

        yield start
        await browser.close()
    assert problems == [], "the page reported errors"


@pytest.fixture
async def world(deployment: Any, platform: Any) -> Any:
    """A text in the log, and a template of a formula."""
    text = json.dumps({"To": THEIRS, "From": OURS, "Body": TEXT})
    await send(deployment, read_request("POST", "/messages", (), text))
    await platform("POST", "/formulas", TEMPLATE)
    return deployment


async def nothing(page: Page, where: str) -> None:
    """Look at nothing."""


async def walk(page: Page, look: Look = nothing) -> None:
    """Read the docs, send a text, map a resource and put a formula to work; undo these two."""
    heading = page.get_by_role("heading", level=1)
    await page.get_by_role("link", name="API docs").click()
    await expect(heading).to_have_text("API docs")
    await look(page, "docs")
    await page.get_by_role("searchbox").fill("nothing of the kind")
    await page.get_by_role("button", name="Search").click()
    await look(page, "no operation")
    await page.get_by_role("searchbox").fill("send a")
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("link", name=re.compile("Send a message")).click()
    await look(page, "an operation")
    await page.get_by_role("link", name="Try it").click()
    await look(page, "a request")
    await page.get_by_label("Body").fill("{")
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("Is no JSON")
    await look(page, "a request that is wrong")
    text = json.dumps({"To": THEIRS, "From": OURS, "Body": "by hand"})
    await page.get_by_label("Body").fill(text)
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(heading).to_have_text("Send this request?")
    await look(page, "a question")
    await page.get_by_role("button", name="Send it").click()
    await expect(page.locator(".status")).to_have_text("200")
    await page.locator("summary", has_text="Python").click()
    await expect(page.get_by_label("Python", exact=True)).to_contain_text("httpx.request")
    await look(page, "an answer")

    await page.get_by_role("link", name="Mapping").first.click()
    await look(page, "nothing mapped")
    await page.get_by_role("link", name="New resource").click()
    await look(page, "a new resource")
    await page.get_by_label("Name of the resource").fill("te xts")
    await page.get_by_label("Your name of field 1").fill("text")
    await page.get_by_role("button", name="Propose by name").click()
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("alert")).to_contain_text("A name of letters")
    await look(page, "a mapping that is wrong")
    await page.get_by_label("Name of the resource").fill("texts")
    await page.get_by_label("Name of the resource").press("Enter")
    await expect(page.get_by_role("cell", name="by hand")).to_be_visible()
    await look(page, "a preview")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_contain_text("texts is mapped.")
    await look(page, "what is mapped")
    await page.get_by_role("link", name="texts", exact=True).click()
    await look(page, "a resource")
    await page.get_by_role("link", name="Mapping").first.click()
    await page.get_by_role("link", name="Remove texts").click()
    await look(page, "a removal")
    await page.get_by_label("Delete the organization’s resource").check()
    await page.get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("Nothing is mapped yet")).to_be_visible()

    await page.get_by_role("link", name="Formulas").first.click()
    await look(page, "formulas")
    await page.get_by_role("link", name="Put to work: Texts to CRM").click()
    await page.get_by_role("button", name="Put to work").click()
    await expect(page.get_by_role("alert")).to_contain_text("Say a value")
    await look(page, "a formula that is wrong")
    await page.get_by_label("Minutes").fill("5")
    await page.get_by_role("button", name="Put to work").click()
    await expect(page.get_by_role("status")).to_contain_text("is at work on the instance")
    await look(page, "a formula at work")
    await page.get_by_role("link", name="Delete formula").click()
    await look(page, "a deletion")
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("status")).to_contain_text("is deleted")


async def judge(page: Page, where: str) -> None:
    """Find what hangs over the edge, and what shuts somebody out."""
    assert await page.evaluate(OVERFLOW) <= 0, where
    # Through the debugger: the page's own policy lets no script of others run.
    session = await page.context.new_cdp_session(page)
    await session.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
    found = await session.send(
        "Runtime.evaluate", {"expression": VIOLATIONS, "awaitPromise": True, "returnByValue": True}
    )
    assert json.loads(found["result"]["value"]) == [], where
    await session.detach()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 320])
async def test_the_next_steps_are_walked_and_no_page_shuts_anybody_out(
    open_page: Open, world: Any, scheme: str, width: int
) -> None:
    """A page that scrolls sideways, or has no contrast or names, can't be used."""
    page = await open_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    await walk(page, judge)
    assert (await list_formulas(world)).at_work == ()


async def test_the_next_steps_are_walked_without_a_script(open_page: Open, world: Any) -> None:
    """A browser that runs none would show pages on which nothing can be done."""
    await walk(await open_page(java_script_enabled=False))


async def test_a_request_is_made_by_keyboard(open_page: Open, world: Any) -> None:
    """Who can't use a mouse, or does not want to, would be locked out."""
    page = await open_page()
    heading = page.get_by_role("heading", level=1)
    for key, title in (("f", "Formulas"), ("m", "Mapping"), ("d", "API docs")):
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await expect(heading).to_have_text(title)
    await page.keyboard.press("/")
    await page.keyboard.type("List messages")
    await page.keyboard.press("Enter")
    link = page.get_by_role("link", name=re.compile("List messages"))
    await expect(page.locator(".operations a")).to_have_count(1)
    await link.focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Try it").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("pageSize").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".status")).to_have_text("200")
    await expect(page.get_by_label("What was answered")).to_contain_text(TEXT)
    # The form is beside the answer, so the page stays where it was.
    assert await page.evaluate("scrollY") == 0


async def sign_in_again(page: Page, desk: Any, role: console.Role = "operator") -> None:
    """Sign in on the page where one is asked to."""
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to Parley")
    await page.get_by_label("One-time address").fill(await console.make_token(desk.redis, role))
    await page.get_by_role("button", name="Sign in").click()


async def test_what_was_typed_outlives_a_reload_and_signing_in_again(
    open_page: Open, connected_desk: Any, world: Any
) -> None:
    """An hour's idleness would cost the text that was being written."""
    page = await open_page()
    await page.goto("/console/request?operation=createMessage")
    body, again = page.get_by_label("Body"), page.get_by_text("What you had typed is back.")
    sample = await body.input_value()
    await expect(again).to_be_hidden()
    text = json.dumps({"To": THEIRS, "From": OURS, "Body": "half an hour's work"})
    await body.fill(text)
    await page.reload()
    await expect(again).to_be_visible()
    await expect(body).to_have_value(text)
    for session in await console.sessions(connected_desk.redis):
        await console.end_session(connected_desk.redis, session.id)
    await page.get_by_role("button", name="Send", exact=True).click()
    await sign_in_again(page, connected_desk)
    await expect(page).to_have_url(re.compile(r"/console/request\?operation=createMessage$"))
    await expect(body).to_have_value(text)

    await page.get_by_role("button", name="Begin anew").click()
    await expect(body).to_have_value(sample)
    await page.reload()
    await expect(again).to_be_hidden()
    await body.fill(text)
    await page.get_by_role("button", name="Send", exact=True).click()
    await page.get_by_role("button", name="Send it").click()
    await expect(page.locator(".status")).to_have_text("200")
    await page.goto("/console/request?operation=createMessage")
    await expect(body).to_have_value(sample)  # It was sent.

    await body.fill(text)
    await page.get_by_role("button", name="Sign out").click()
    await sign_in_again(page, connected_desk)
    await page.goto("/console/request?operation=createMessage")
    await expect(body).to_have_value(sample)  # Nobody else finds it.


async def test_rows_that_were_added_are_back_as_well(
    open_page: Open, connected_desk: Any, world: Any
) -> None:
    """All fields beyond the fifth would be gone, and with the next letter from the tab too."""
    page = await open_page()
    await page.goto("/console/mapping/edit")
    rows = page.locator(".pair-row")
    await expect(rows).to_have_count(5)
    await page.get_by_label("Name of the resource").fill("texts")
    await page.get_by_role("button", name="More fields").click()
    await expect(rows).to_have_count(10)
    await page.get_by_label("Your name of field 7").fill("seventh")
    await rows.nth(6).get_by_label("What fills").select_option("body")
    for session in await console.sessions(connected_desk.redis):
        await console.end_session(connected_desk.redis, session.id)
    await page.get_by_role("button", name="Preview").click()
    await sign_in_again(page, connected_desk)
    await expect(page.get_by_text("What you had typed is back.")).to_be_visible()
    await expect(page.get_by_label("Your name of field 7")).to_have_value("seventh")
    await expect(rows.nth(6).get_by_label("What fills field 7")).to_have_value("body")

    await page.get_by_label("Your name of field 1", exact=True).fill("first")
    await page.reload()
    await expect(page.get_by_label("Your name of field 1", exact=True)).to_have_value("first")
    await expect(page.get_by_label("Your name of field 7")).to_have_value("seventh")
    await page.get_by_role("button", name="Begin anew").click()
    await expect(rows).to_have_count(5)
    await expect(page.get_by_label("Your name of field 1", exact=True)).to_have_value("")
    await page.get_by_label("Name of the resource").fill("other")
    await page.reload()
    await expect(page.get_by_label("Name of the resource")).to_have_value("other")
    await expect(rows).to_have_count(5)


async def test_a_viewer_finds_nothing_of_what_an_operator_typed(
    open_page: Open, connected_desk: Any, world: Any
) -> None:
    """Somebody's text and number would be filled in for whoever signs in at that tab next."""
    page = await open_page()
    await page.goto("/console/mapping/edit")
    await page.get_by_label("Name of the resource").fill("theirs")
    await page.goto("/console/request?operation=createMessage")
    body = page.get_by_label("Body")
    sample = await body.input_value()
    await body.fill(json.dumps({"To": THEIRS, "From": OURS, "Body": "for operators"}))
    for session in await console.sessions(connected_desk.redis):
        await console.end_session(connected_desk.redis, session.id)
    await page.reload()
    await sign_in_again(page, connected_desk, "viewer")
    await expect(page.get_by_text("Operators can send requests.")).to_be_visible()
    await expect(body).to_have_value(sample)
    assert await page.evaluate("sessionStorage.length") == 0

    await body.fill("a viewer's own")
    for path, field in (
        ("mapping/edit", "Name of the resource"),
        ("formulas/new?template=Texts to CRM", "Minutes"),
    ):
        await page.goto(f"/console/{path}")
        await page.get_by_label(field).fill("7")
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_mapping_and_a_formula_are_typed_once(
    open_page: Open, connected_desk: Any, world: Any
) -> None:
    """The names of ten fields would have to be typed again."""
    page = await open_page()
    await page.goto("/console/mapping/edit")
    await page.get_by_label("Name of the resource").fill("texts")
    await page.get_by_label("Your name of field 1").fill("text")
    await page.get_by_label("What fills").first.select_option("body")
    await page.goto("/console/formulas")
    await page.get_by_role("link", name="Put to work").click()
    await page.get_by_label("Minutes").fill("5")

    await page.goto("/console/mapping/edit")
    await expect(page.get_by_text("What you had typed is back.")).to_be_visible()
    await page.get_by_role("button", name="Preview").click()
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("link", name="New resource").click()
    await expect(page.get_by_label("Name of the resource")).to_have_value("")
    await page.goto("/console/formulas")
    await page.get_by_role("link", name="Put to work").click()
    await expect(page.get_by_label("Minutes")).to_have_value("5")
    await page.get_by_role("button", name="Put to work").click()
    await page.get_by_role("link", name="Put to work").click()
    await expect(page.get_by_label("Minutes")).to_have_value("")
