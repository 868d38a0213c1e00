"""The phone page in a real browser, against the whole system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.flow.browser import FLAGS
from tests.flow.conftest import ROOT, Deployment, fetch
from tests.flow.phone_still import LIMIT_BYTES, picture
from tests.programs import program


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of headless Chromium."""
    chromium = program("chromium", "chromium-browser", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
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


def test_a_text_typed_on_the_phone_is_answered_in_its_thread(
    deployment: Deployment, page: Page
) -> None:
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


def test_what_people_write_is_shown_as_text(deployment: Deployment, page: Page) -> None:
    """A text with markup in it would run in the developer's browser."""
    deployment.serve()
    page.goto(deployment.sandbox)
    page.locator("#composer").fill("echo <img src=x onerror=alert(1)> & <b>bold</b>")
    page.locator("#send").click()
    reply = page.locator("#thread [data-direction=reply] .body")
    expect(reply).to_have_text("<img src=x onerror=alert(1)> & <b>bold</b>")
    assert page.locator("#thread b, #thread img").count() == 0


def test_a_phone_without_a_service_says_so(deployment: Deployment, page: Page) -> None:
    """The newcomer would type into the void."""
    page.goto(deployment.sandbox)
    expect(page.locator("body")).to_contain_text(
        re.compile("no service|not.*connected", re.IGNORECASE)
    )
    assert page.locator("#send").is_disabled()


@pytest.mark.long
def test_nothing_hangs_over_the_edge(deployment: Deployment, page: Page) -> None:
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


@pytest.mark.long
def test_trouble_is_made_from_the_page_and_gone_through(deployment: Deployment, page: Page) -> None:
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
    expect(page.locator("#trouble-said")).to_contain_text("New token: done.")
    box = page.locator(".trouble").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.get_by_role("button", name="Close the wire").click()
    page.locator("#composer").fill("echo still here")
    page.locator("#composer").press("Enter")
    reply = page.locator("#thread [data-direction=reply] .body")
    expect(reply).to_have_text("still here", timeout=20_000)


SILENT = """
from service import Router
router = Router()

@router.keyword("BALANCE", "SALDO")
async def balance(message):
    return "You have 12 points."

@router.pattern(r"order (?P<number>\\d+)")
async def order(message, number):
    return "It is on its way." if number == "1" else None
"""


@pytest.fixture
def silent(deployment: Deployment, tmp_path: Path) -> Deployment:
    """Handlers that answer a word and an order, once each, and nothing to the rest."""
    path = tmp_path / "handlers_under_test.py"
    path.write_text(SILENT)
    deployment.settings |= {"HANDLERS": str(path), "SEND_ATTEMPTS": "1"}
    return deployment


def say(page: Page, text: str) -> None:
    """Type a text and send it."""
    page.locator("#composer").fill(text)
    page.locator("#composer").press("Enter")


def silence_of(page: Page, text: str) -> Locator:
    """The line that says why a text has no reply."""
    return page.locator("#thread [data-direction=text]").filter(has_text=text).locator(".silence")


@pytest.mark.long
def test_a_wire_row_opens_and_is_there_after_a_reload(deployment: Deployment, page: Page) -> None:
    """Who wonders what was sent would have to read the service's log, or to be there in time."""
    deployment.serve()
    page.goto(deployment.sandbox)
    say(page, "echo what crossed")
    expect(page.locator("#thread [data-direction=reply]")).to_have_count(1)
    page.reload()
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.locator("#wire-button").click()
    rows = page.locator(".wire-row")
    callback = rows.filter(has_text="/callbacks/twilio").first
    callback.locator("summary").focus()
    page.keyboard.press("Enter")
    opened = callback.locator(".wire-exchange")
    expect(opened).to_contain_text("Body = echo what crossed")
    expect(opened).to_contain_text("X-Twilio-Signature")
    expect(opened).to_contain_text("<Response/>")
    made = rows.filter(has_text="POST /instances").first
    made.locator("summary").click()
    opened = made.locator(".wire-exchange")
    expect(opened).to_contain_text("User ********, Organization ********")
    expect(opened).to_contain_text('"messaging.sms.twilio.token": "********"')
    expect(opened).to_contain_text('"token": "********"')
    box = opened.locator(".wire-body").first.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    text = page.locator("#wire").inner_text()
    assert not [each for each in secrets_of(deployment) if each in text]
    page.locator("#wire-clear").click()
    expect(rows).to_have_count(0)


def secrets_of(deployment: Deployment) -> set[str]:
    """What no page may show."""
    names = ("TWILIO_AUTH_TOKEN", "OPEN_CONNECTORS_USER_SECRET")
    return {deployment.settings[name] for name in names} | set(deployment.account.values())


def test_a_text_without_an_answer_says_why(silent: Deployment, page: Page) -> None:
    """The developer would stare at a silent phone, and look for the mistake in the wrong place."""
    silent.serve()
    page.goto(silent.sandbox)
    say(page, "BALANCE")
    expect(page.locator("#thread [data-direction=reply]")).to_have_count(1)
    say(page, "what is no route")
    expect(silence_of(page, "what is no route")).to_contain_text("No reply yet", timeout=8_000)
    expect(silence_of(page, "BALANCE")).to_have_count(0)

    silent.trouble(status=422, count=1)
    say(page, "order 1")
    expect(silence_of(page, "order 1")).to_contain_text("The reply was refused: 422")
    expect(silence_of(page, "what is no route")).to_have_text("No reply.", timeout=8_000)

    silent.processes[-1].terminate()
    silent.processes[-1].wait(15)
    silent.public_listener.close()
    say(page, "is anybody there")
    failed = page.locator("#thread [data-state=failed] .fate")
    expect(failed).to_contain_text("no answer from the service", timeout=20_000)


@pytest.mark.long
def test_stop_shows_what_twilio_answers_and_what_it_refuses_then(
    deployment: Deployment, page: Page
) -> None:
    """Nobody would see why a phone that said STOP gets nothing any more."""
    deployment.serve()
    page.goto(deployment.sandbox)
    say(page, "STOP")
    answer = page.locator("#thread [data-direction=network]")
    expect(answer.locator(".body")).to_contain_text("You have successfully been unsubscribed")
    expect(answer.locator(".meta")).to_contain_text("Twilio's own answer")
    say(page, "echo hello")
    expect(silence_of(page, "echo hello")).to_contain_text("opted out")
    expect(silence_of(page, "echo hello")).to_contain_text("21610")
    say(page, "START")
    expect(answer).to_have_count(2)
    say(page, "echo again")
    expect(page.locator("#thread [data-direction=reply] .body")).to_have_text("again")


@pytest.mark.long
def test_a_deleted_instance_says_what_goes_on_and_until_when(
    deployment: Deployment, page: Page
) -> None:
    """The phone would be dead for minutes, and look broken."""
    deployment.serve(CONNECTOR_WATCH_S="4")
    fetch(f"{deployment.sandbox}/sandbox/service", {"looks_every_s": 4})
    page.goto(deployment.sandbox)
    say(page, "echo hello")
    expect(page.locator("#thread [data-direction=reply]")).to_have_count(1)
    fetch(f"{deployment.sandbox}/sandbox/meddle", {"what": "delete"})
    notice = page.locator("#notice")
    expect(notice).to_contain_text("instance was deleted at")
    expect(notice).to_contain_text("at the latest (it looks every 4 s)")
    expect(page.locator("#our-number")).to_have_text("its instance is deleted")
    expect(notice).to_be_hidden(timeout=15_000)
    say(page, "echo again")
    expect(page.locator("#thread [data-direction=reply] .body").last).to_have_text("again")


@pytest.mark.long
def test_the_end_stays_in_view_after_long_texts(deployment: Deployment, page: Page) -> None:
    """The reader would scroll down after every long reply."""
    deployment.serve()
    page.goto(deployment.sandbox)
    replies = page.locator("#thread [data-direction=reply]")
    gap = (
        "() => { const box = document.querySelector('#scroll');"
        " return box.scrollHeight - box.scrollTop - box.clientHeight; }"
    )
    for count, length in ((2, 1_900), (3, 30), (5, 2_400), (7, 3_000)):
        say(page, "echo " + "word " * (length // 5))
        expect(replies).to_have_count(count)
        page.wait_for_timeout(300)
        assert page.evaluate(gap) <= 2, f"after {length} characters"
        expect(page.locator("#jump")).to_be_hidden()


@pytest.mark.long
def test_an_empty_phone_suggests_what_the_routes_take(deployment: Deployment, page: Page) -> None:
    """Whoever tries handlers of their own would be told to text words that they don't know."""
    told = {"texts": ["BALANCE"], "also": ["what the pattern order (?P<number>) finds"]}
    deployment.serve()
    page.goto(deployment.sandbox)
    expect(page.locator("#empty-hint")).to_have_text("Write a text below.")
    expect(page.locator("#examples button")).to_have_count(0)
    fetch(f"{deployment.sandbox}/sandbox/service", told)
    expect(page.locator("#examples button")).to_have_text(["BALANCE"])
    expect(page.locator("#also li")).to_have_text(told["also"])
    page.locator("#examples button").click()
    expect(page.locator("#thread [data-direction=text] .body")).to_have_text("BALANCE")


@pytest.mark.long
def test_the_still_of_the_readme_can_be_taken(
    deployment: Deployment, page: Page, tmp_path: Path
) -> None:
    """The README's picture would show what nobody can see any more."""
    deployment.serve()
    page.set_viewport_size({"width": 1280, "height": 760})
    still = tmp_path / "phone.png"
    picture(page, deployment.sandbox, still)
    assert 20_000 < still.stat().st_size < LIMIT_BYTES
    assert (ROOT / "docs" / "phone.png").stat().st_size < LIMIT_BYTES
