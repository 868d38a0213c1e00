"""The console in a real browser, against the whole system."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.flow.browser import AXE, OVERFLOW, VIOLATIONS
from tests.flow.conftest import Deployment
from tests.flow.console_walk import address_of, enter, parley

NARROWEST = "Math.min(...[...document.querySelectorAll('.main-cell')].map(e => e.clientWidth))"

ANSWERED = "#live .facts div:has(dt:text-is('Texts answered')) dd"


def test_an_operator_signs_in_by_the_printed_address_and_sees_the_overview_change(
    deployment: Deployment, open_page: Callable[..., Page]
) -> None:
    """The console would be of no use, or show what was true when it was opened."""
    deployment.serve()
    page = open_page(viewport={"width": 390, "height": 844})
    address = address_of(deployment)
    page.goto(address)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{deployment.internal}/console")
    expect(page.locator("#connection")).to_have_text("Live", timeout=15_000)
    expect(page.locator(".verdict h2")).to_have_text("Ready")
    expect(page.locator(ANSWERED)).to_have_text("0")
    page.evaluate("document.querySelector('h1').dataset.same = 'yes'")

    deployment.text("echo good morning")
    expect(page.locator(ANSWERED)).to_have_text("1", timeout=15_000)
    expect(page.locator("h1")).to_have_attribute("data-same", "yes")
    assert page.evaluate(OVERFLOW) <= 0
    (token,) = parse_qs(urlsplit(address).query)["token"]
    assert token not in deployment.log()
    page.goto(address)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("has been used")


@pytest.mark.long
def test_everything_can_be_done_by_keyboard(
    deployment: Deployment, open_page: Callable[..., Page]
) -> None:
    """Who can't use a mouse, or does not want to, would be locked out."""
    deployment.serve()
    page = open_page()
    page.goto(address_of(deployment))
    expect(page.get_by_role("button", name="Sign in")).to_be_focused()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Overview")
    for key, title in (("s", "Sessions"), ("a", "Audit trail"), ("o", "Overview"), ("a", "Audit")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(heading).to_contain_text(title)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("gone?")  # No keys of the page's in a field.
    expect(page.get_by_role("searchbox")).to_have_value("gone?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2, name=re.compile("gone"))).to_be_visible()

    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()

    page.goto(f"{deployment.internal}/console/sessions")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=re.compile("End session"))).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
        if page.get_by_role("button", name="Sign out").evaluate(
            "e => e === document.activeElement"
        ):
            break
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Sign in to Parley")


@pytest.mark.long
def test_single_keys_can_be_turned_off(
    deployment: Deployment, open_page: Callable[..., Page]
) -> None:
    """Who speaks to the computer would jump from page to page."""
    deployment.serve()
    page = open_page()
    enter(deployment, page)
    page.get_by_role("link", name="Keys").click()
    page.get_by_role("checkbox").uncheck()
    page.reload()
    page.keyboard.press("?")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_timeout(300)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(page.get_by_role("dialog")).to_be_hidden()


@pytest.mark.long
def test_every_page_works_without_a_script(
    deployment: Deployment, open_page: Callable[..., Page]
) -> None:
    """A browser that runs none would show a page on which nothing can be done."""
    deployment.serve()
    page = open_page(java_script_enabled=False)
    page.goto(f"{deployment.internal}/console/audit?contains=as+operator")
    page.get_by_label("One-time address").fill(address_of(deployment))
    page.get_by_role("button", name="Sign in").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Audit trail")
    expect(page.get_by_role("row")).to_have_count(2)  # Its head, and the address that was made.
    page.get_by_role("searchbox").fill("sign in")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row").last).to_contain_text("operator by one-time address")

    page.get_by_role("link", name="Overview").click()
    expect(page.locator(ANSWERED)).to_have_text("0")
    deployment.text("echo hello")
    deployment.text("echo hello again")
    page.wait_for_timeout(2_000)
    page.get_by_role("link", name="Look again").click()
    expect(page.locator(ANSWERED)).to_have_text("2")
    page.get_by_role("link", name="Keys").click()
    expect(heading).to_have_text("Keys")
    page.get_by_role("link", name="Sessions").click()
    page.get_by_role("button", name=re.compile("End session")).click()
    expect(heading).to_have_text("Sign in to Parley")


@pytest.mark.long
def test_the_page_says_when_it_is_not_live_and_goes_on_by_itself(
    deployment: Deployment, open_page: Callable[..., Page]
) -> None:
    """An operator would trust what has stood still since the service went down."""
    process = deployment.serve()
    page = open_page(tells=("net::ERR_", "htmx:sse:error"))
    enter(deployment, page)
    connection = page.locator("#connection")
    expect(connection).to_have_text("Live", timeout=15_000)
    process.kill()
    process.wait()
    expect(connection).to_have_text("Reconnecting", timeout=15_000)
    deployment.serve()
    expect(connection).to_have_text("Live", timeout=60_000)
    deployment.text("echo hello")
    expect(page.locator(ANSWERED)).not_to_have_text("0", timeout=15_000)

    parley(deployment, "console", "end", "--all")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to Parley", timeout=20_000)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390, 320])
def test_no_page_hangs_over_the_edge_or_shuts_anybody_out(
    deployment: Deployment, open_page: Callable[..., Page], scheme: str, width: int
) -> None:
    """A page that scrolls sideways, or has no contrast or names, can't be used."""
    deployment.serve()
    parley(deployment, "console", "password", given="correct horse battery\n")
    page = open_page(viewport={"width": width, "height": 844}, color_scheme=scheme)

    def look(where: str) -> None:
        assert page.evaluate(OVERFLOW) <= 0, where
        # Through the debugger: the page's own policy lets no script of others run.
        session = page.context.new_cdp_session(page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
        found = session.send(
            "Runtime.evaluate",
            {"expression": VIOLATIONS, "awaitPromise": True, "returnByValue": True},
        )
        assert json.loads(found["result"]["value"]) == [], where
        session.detach()

    page.goto(f"{deployment.internal}/console")
    look("sign-in")
    page.goto(f"{deployment.internal}/console/sign-in?token=of-yesterday")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("has been used")
    look("an address of yesterday")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    look("a wrong password")
    page.goto(address_of(deployment))
    look("the one-time address")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#connection")).to_have_text("Live", timeout=15_000)
    look("the overview")
    for path in (
        *("instance", "instance/rotate", "sessions"),
        *("audit", "audit?contains=none-of-these", "keyboard", "none"),
    ):
        page.goto(f"{deployment.internal}/console/{path}")
        look(path)
        if path == "audit":
            # A refusal's long reason leaves the others their room.
            expect(page.locator(".outcome").first).to_be_visible()
            narrowest = page.evaluate(NARROWEST)
            assert narrowest >= 120, f"a cell of {narrowest} pixels"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    look("the keys")


@pytest.mark.long
def test_a_running_service_shows_what_its_instance_can_be_asked(deployment: Deployment) -> None:
    """The pages that ask the connector would know no deployment."""
    deployment.serve()
    address = urlsplit(address_of(deployment))
    with httpx.Client(base_url=deployment.internal, trust_env=False, timeout=20) as browser:
        page = browser.get(f"{address.path}?{address.query}").text
        form = dict(re.findall(r'name="(csrf|next|token)" value="([^"]*)"', page))
        assert browser.post("/console/sign-in", data=form).status_code == 303
        found = browser.get("/console/docs?operation=createMessage")
    assert found.status_code == 200
    assert "Send a message" in found.text


@pytest.mark.long
def test_it_can_be_left_out(deployment: Deployment) -> None:
    """Who does not want pages beside the probes could not be rid of them."""
    deployment.serve(CONSOLE="off")
    answer = httpx.get(f"{deployment.internal}/console", timeout=20, trust_env=False)
    assert (answer.status_code, answer.text) == (404, "Not Found")


@pytest.mark.long
def test_every_process_serves_every_page(deployment: Deployment) -> None:
    """With several processes the next click would end at one that knows of no session."""
    deployment.serve("--processes", "2")
    address = urlsplit(address_of(deployment))
    with httpx.Client(base_url=deployment.internal, trust_env=False, timeout=20) as browser:
        page = browser.get(f"{address.path}?{address.query}").text
        form = dict(re.findall(r'name="(csrf|next|token)" value="([^"]*)"', page))
        assert browser.post("/console/sign-in", data=form).status_code == 303
    seen = set()
    for _ in range(60):
        # A connection of its own each, which either of them may take.
        with httpx.Client(cookies=browser.cookies, trust_env=False, timeout=20) as one:
            seen.add(one.get(f"{deployment.internal}/counters").json()["pid"])
            keys = one.get(f"{deployment.internal}/console/keyboard")
            assert keys.status_code == 200
        if len(seen) == 2:
            break
    assert len(seen) == 2
