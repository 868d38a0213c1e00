"""The pages of the instance in a real browser: by keyboard, on a phone, without a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from service.operate import console
from service.operate.deployment import Deployment
from service.operate.instance import open_provisioner
from tests.flow.browser import AXE, FLAGS, VIOLATIONS
from tests.programs import program
from tests.sandboxed import Platform, bare, environ, platform, token
from tests.web.console.conftest import PASSWORD, Desk, Open
from tests.web.console.test_instance import ELSEWHERE, PAGE, kept_id

__all__ = ["bare", "environ", "platform", "token"]

pytestmark = pytest.mark.anyio

CUT_OFF = """[...document.querySelectorAll(".main, .main *")].filter(
  each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 1
    && getComputedStyle(each).display !== "inline" && !each.closest("thead")
).map(each => each.className || each.tagName)"""
"""Elements whose content is wider than they are: it would hang out, or be hidden. A table's head,
which a phone does not show, is for those who listen."""

SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}

OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def desk(open_desk: Open, bare: Deployment) -> Desk:
    """A console whose connector is the sandbox."""
    return await open_desk(deployment=bare)


@asynccontextmanager
async def browsing(desk: Desk) -> AsyncIterator[OpenPage]:
    """Open pages of an operator who has signed in; options: of the browser's window."""
    chromium = program("chromium", "chromium-browser", package="chromium")
    problems: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        async def start(**options: Any) -> Page:
            page = await (await browser.new_context(reduced_motion="reduce", **options)).new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            token = await console.make_token(desk.redis)
            await page.goto(f"{desk.url}/console/sign-in?token={token}")
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
            await page.wait_for_load_state()
            return page

        yield start
        await browser.close()
    assert problems == []


async def test_nothing_on_these_pages_is_cut_off_or_out_of_reach(
    desk: Desk, bare: Deployment, platform: Platform
) -> None:
    """Somebody who listens, or has a phone, could not look after the instance."""
    paths = [PAGE, f"{PAGE}/apply"]

    async def look(page: Page, path: str) -> None:
        await page.goto(f"{desk.url}{path}")
        where = f"{path} {page.viewport_size}"
        assert await page.evaluate(CUT_OFF) == [], where
        await page.evaluate(AXE.read_text(encoding="utf-8"))
        found = json.loads(await page.evaluate(VIOLATIONS))
        assert found == [], (where, found)

    async with browsing(desk) as open_page:
        pages = [
            await open_page(viewport=size, color_scheme=scheme, bypass_csp=True)
            for size in SIZES.values()
            for scheme in ("light", "dark")
        ]
        for path in paths:
            await look(pages[0], path)
        async with open_provisioner(bare) as provisioner:
            await provisioner.ensure()
        made = await platform("POST", "/instances", ELSEWHERE)
        id_ = await kept_id(bare)
        await platform("PATCH", f"/instances/{id_}", {"name": "x" * 80})
        await platform("DELETE", f"/instances/{id_}/enabled")
        await console.set_password(desk.redis, PASSWORD)
        acts = ("apply", "disable", "enable", "rotate", "remove", "take", "token")
        paths += [*(f"{PAGE}/{act}" for act in acts), f"{PAGE}/take/{made['id']}"]
        for page in pages:
            for path in paths:
                await look(page, path)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_an_instance_is_taken_over_and_switched_off_by_keyboard(
    desk: Desk, bare: Deployment, platform: Platform, size: str, scripts: bool
) -> None:
    """Whoever uses no mouse, or no script, would be left with the terminal."""
    made = await platform("POST", "/instances", ELSEWHERE)
    async with browsing(desk) as open_page:
        page = await open_page(viewport=SIZES[size], java_script_enabled=scripts)
        if scripts:
            await page.keyboard.press("g")
            await page.keyboard.press("i")
        else:
            await page.get_by_role("link", name="Instance").press("Enter")
        await expect(page.get_by_role("heading", name="As it should be")).to_be_visible()
        await page.get_by_role("link", name="Take over", exact=True).press("Enter")
        await page.get_by_role("link", name=f"Take over instance {made['id']}").press("Enter")
        await page.get_by_role("button", name="Take it over").press("Enter")
        await expect(page.get_by_role("status").first).to_contain_text("taken over")
        assert await kept_id(bare) == str(made["id"])
        await page.get_by_role("link", name="Switch off").press("Enter")
        await page.get_by_role("button", name="Switch the instance off").press("Enter")
        await expect(page.get_by_role("heading", name="It is switched off")).to_be_visible()
    assert (await platform("GET", f"/instances/{made['id']}"))["disabled"] is True


async def test_the_token_is_gone_when_one_comes_back_to_it(desk: Desk, token: str) -> None:
    """The next one at this browser would find it with the back button."""
    await console.set_password(desk.redis, PASSWORD)
    async with browsing(desk) as open_page:
        page = await open_page()
        await page.goto(f"{desk.url}{PAGE}/token")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Show the token").click()
        await expect(page.get_by_text(token)).to_be_visible()
        await page.get_by_role("link", name="Back to the instance").click()
        await expect(page.get_by_role("heading", name="As it should be")).to_be_visible()
        await page.goto(f"{desk.url}{PAGE}/token")
        await expect(page.get_by_text(token)).to_have_count(0)
