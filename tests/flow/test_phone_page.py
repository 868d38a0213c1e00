"""The phone page in a real browser, against the whole system."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of headless Chromium; without one, skipped on a user's machine and failed in CI."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI has to have Chromium: .ci/run installs it")
        pytest.skip("no chromium on PATH; install it (apt-get install chromium) to run this test")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        # Without motion: what is measured is where things come to rest.
        opened = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on(
            "console",
            lambda line: problems.append(line.text) if line.type == "error" else None,
        )
        yield opened
        browser.close()
    assert problems == [], "the page reported errors"


def test_a_text_typed_on_the_phone_is_answered_in_its_thread(deployment, page):
    """The first thing a newcomer does after the demo's transcript would not work."""
    deployment.serve()
    page.goto(deployment.sandbox)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.locator("#composer").fill("echo good morning")
    page.locator("#composer").press("Enter")
    thread = page.locator("#thread")
    expect(thread.locator("[data-sid][data-direction=text] .body")).to_have_text(
        "echo good morning"
    )
    expect(thread.locator("[data-sid][data-direction=reply] .body")).to_have_text("good morning")
    expect(page.locator("#composer")).to_have_value("")
    page.reload()
    expect(thread.locator("[data-sid] .body")).to_have_text(["echo good morning", "good morning"])


def test_what_people_write_is_shown_as_text(deployment, page):
    """A text with markup in it would run in the developer's browser."""
    deployment.serve()
    page.goto(deployment.sandbox)
    page.locator("#composer").fill("echo <img src=x onerror=alert(1)> & <b>bold</b>")
    page.locator("#send").click()
    reply = page.locator("#thread [data-direction=reply] .body")
    expect(reply).to_have_text("<img src=x onerror=alert(1)> & <b>bold</b>")
    assert page.locator("#thread b, #thread img").count() == 0


def test_a_phone_without_a_service_says_so(deployment, page):
    """The newcomer would type into the void."""
    page.goto(deployment.sandbox)
    expect(page.locator("body")).to_contain_text(
        re.compile("no service|not.*connected", re.IGNORECASE)
    )
    assert page.locator("#send").is_disabled()


def test_nothing_hangs_over_the_edge(deployment, page):
    """A page that scrolls sideways can't be used on a phone."""
    deployment.serve()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for place, width in enumerate((320, 360, 390, 1280)):
        page.set_viewport_size({"width": width, "height": 740})
        page.goto(deployment.sandbox)
        page.locator("#composer").fill("echo " + "W" * 90 + " https://example.com/" + "x" * 90)
        page.locator("#send").click()
        expect(page.locator("#thread [data-direction=reply]")).to_have_count(place + 1)
        assert page.evaluate(overflow) <= 0, f"{width} pixels wide"


def test_trouble_is_made_from_the_page_and_gone_through(deployment, page):
    """Who wants to see Parley survive would have to write requests by hand."""
    deployment.settings |= {"CONNECTOR_WATCH_S": "1"}
    deployment.serve()
    page.goto(deployment.sandbox)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.locator("#wire-button").click()
    page.get_by_text("Make trouble").click()
    page.get_by_role("button", name="Fail 3").click()
    expect(page.locator("#trouble-said")).to_have_text("Fail 3: done.")
    page.get_by_role("button", name="New token").click()
    expect(page.locator("#trouble-said")).to_have_text("New token: done.")
    box = page.locator(".trouble").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.get_by_role("button", name="Close the wire").click()
    page.locator("#composer").fill("echo still here")
    page.locator("#composer").press("Enter")
    reply = page.locator("#thread [data-direction=reply] .body")
    expect(reply).to_have_text("still here", timeout=20_000)
