"""From an empty Redis to an answered text by the pages of Connect alone, on the whole system."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from playwright.sync_api import Page, expect

from tests.flow.conftest import OUR_NUMBER, Deployment, OpenPage, until
from tests.flow.console_walk import TYPED, address_of, parley, serve_bare
from tests.flow.test_connector import platform

WIDTHS = {1440: 900, 390: 844}

COMES_NEXT = {"API docs": "API docs", "Common resource": "Mapping", "Formula": "Formulas"}
"""What the last page leads to, and the heading of each."""


@pytest.fixture
def typed(deployment: Deployment) -> Mapping[str, str]:
    """What has to be typed: the deployment is not set up."""
    return {name.lower(): deployment.settings.pop(name) for name in TYPED}


def serve(deployment: Deployment, *arguments: str) -> None:
    """Start a service that is not set up, and wait until it answers."""
    serve_bare(deployment, *arguments)
    # A text that comes too early is Twilio's to repeat.
    assert deployment.post({"Content-Type": "application/x-www-form-urlencoded"}, "Body=hi") == 503


def open_connect(deployment: Deployment, page: Page) -> None:
    """Sign in, and go to Connect by what the overview offers."""
    page.goto(address_of(deployment))
    page.get_by_role("button", name="Sign in").click()
    page.locator(".verdict").get_by_role("link", name="Connect").click()
    expect(page.get_by_role("heading", level=2, name="Open Connectors")).to_be_visible()


def by_mouse(page: Page, typed: Mapping[str, str]) -> None:
    """Walk the four steps."""
    page.get_by_text("Another", exact=True).click()
    for field in list(typed)[:3]:
        page.locator(f"#{field}").fill(typed[field])
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#answer")).to_contain_text("Open Connectors takes these secrets")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=2, name="Twilio")).to_be_visible()
    for field in list(typed)[3:]:
        page.locator(f"#{field}").fill(typed[field])
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#callback-url")).to_contain_text("/callbacks/twilio")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=2, name="The plan")).to_be_visible()
    asking = page.get_by_role("link", name="Ask Open Connectors for the plan")
    if asking.is_visible():  # Without a script.
        asking.click()
    expect(page.locator(".plan-lines")).to_contain_text("create an instance")
    page.get_by_role("button", name="Apply").click()


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def by_keyboard(page: Page, typed: Mapping[str, str]) -> None:
    """Walk the four steps, and touch nothing but keys."""
    tab_to(page, "[name=region]")
    page.keyboard.press("ArrowUp")  # From the first of a list to its last.
    for field in list(typed)[:3]:
        tab_to(page, f"#{field}")
        page.keyboard.type(typed[field])
    tab_to(page, "button[formaction]")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("Open Connectors takes these secrets")
    tab_to(page, "form.connect-form .actions button:first-child")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2, name="Twilio")).to_be_visible()
    for field in list(typed)[3:]:
        tab_to(page, f"#{field}")
        page.keyboard.type(typed[field])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2, name="Instance")).to_be_visible()
    tab_to(page, "#instance_name")
    page.keyboard.press("Enter")
    expect(page.locator(".plan-lines")).to_contain_text("create an instance")
    tab_to(page, ".plan button")
    page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("way", "width"),
    [
        ("mouse", 390),
        pytest.param("mouse", 1440, marks=pytest.mark.long),
        pytest.param("keyboard", 390, marks=pytest.mark.long),
        pytest.param("keyboard", 1440, marks=pytest.mark.long),
        pytest.param("no script", 390, marks=pytest.mark.long),
        pytest.param("no script", 1440, marks=pytest.mark.long),
    ],
)
def test_a_service_is_set_up_by_its_pages_alone_until_a_text_is_answered(
    deployment: Deployment, typed: Mapping[str, str], open_page: OpenPage, way: str, width: int
) -> None:
    """A person with an Account SID and an Auth Token would need the documentation, or us."""
    serve(deployment)
    page = open_page(
        viewport={"width": width, "height": WIDTHS[width]}, java_script_enabled=way != "no script"
    )
    open_connect(deployment, page)
    (by_keyboard if way == "keyboard" else by_mouse)(page, typed)

    expect(page.get_by_role("heading", level=2, name="Connected")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("link", name=OUR_NUMBER)).to_have_attribute("href", f"sms:{OUR_NUMBER}")
    assert deployment.text("echo good morning")["status"] == 200
    until(deployment.replies)
    assert deployment.bodies() == ["good morning"]
    if way == "no script":
        page.wait_for_timeout(2_000)
        page.get_by_role("link", name="Look again").click()
    for what in ("Texts handled", "Replies sent"):
        count = page.locator(f".exchange div:has(dt:text-is('{what}')) dd.count")
        expect(count).to_have_text("1", timeout=15_000)
    for name, title in COMES_NEXT.items():
        page.goto(f"{deployment.internal}/console/connect")
        page.locator(".next-cards").get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
    instances = platform_of(deployment, typed)
    assert [each["element"]["key"] for each in instances] == ["twilio"]
    secrets = [typed[field] for field in typed if field.endswith(("secret", "token"))]
    assert not [each for each in secrets if each in deployment.log()]


def platform_of(
    deployment: Deployment, typed: Mapping[str, str]
) -> list[Mapping[str, Mapping[str, str]]]:
    """List the instances at the connector."""
    deployment.settings |= {name: typed[name.lower()] for name in TYPED}
    return list(platform(deployment, "GET", "/instances"))


@pytest.mark.long
def test_mistakes_are_mended_where_they_are_and_nothing_is_typed_twice(
    deployment: Deployment, typed: Mapping[str, str], open_page: OpenPage
) -> None:
    """Somebody who mistypes, reloads or is signed out would begin again."""
    serve(deployment)
    page = open_page()
    open_connect(deployment, page)
    wrong = dict(typed) | {"open_connectors_organization_secret": "mistyped"}
    page.get_by_label("Another").check()
    for field in list(typed)[:3]:
        page.locator(f"#{field}").fill(wrong[field])
    page.get_by_role("button", name="Continue").click()
    page.locator("#twilio_sender").fill("0150 123")
    page.locator("#twilio_account_sid").fill(typed["twilio_account_sid"])
    expect(page.locator("#twilio_sender-problem")).to_contain_text("This is not a sender")
    page.locator("#twilio_sender").blur()
    page.wait_for_timeout(500)  # What was typed last is sent when the field is left.
    parley(deployment, "console", "end", "--all")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("One-time address").fill(address_of(deployment))
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#twilio_account_sid")).to_have_value(typed["twilio_account_sid"])
    expect(page.locator("#twilio_sender")).to_have_value("0150 123")
    page.get_by_role("button", name="Continue").click()
    token = page.locator("#twilio_auth_token-problem")
    expect(token).to_contain_text("asks for it as messaging.sms.twilio.token")
    page.locator("#twilio_auth_token").fill(typed["twilio_auth_token"])
    page.locator("#twilio_sender").fill(typed["twilio_sender"])
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=2, name="Instance")).to_be_visible()
    page.get_by_role("button", name="Continue").click()

    expect(page.locator(".plan")).to_contain_text("Open Connectors answered 401")
    expect(page.locator(".plan")).to_contain_text("requestId")
    page.get_by_role("link", name=re.compile("Go to")).click()
    expect(page.locator("#open_connectors_user_secret-problem")).to_contain_text("401")
    page.locator("#open_connectors_organization_secret").fill(
        typed["open_connectors_organization_secret"]
    )
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="Review").click()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", level=2, name="Connected")).to_be_visible(timeout=20_000)


@pytest.mark.long
def test_a_new_auth_token_is_typed_while_the_service_runs(
    deployment: Deployment, typed: Mapping[str, str], open_page: OpenPage
) -> None:
    """A token that had to be changed would cost a restart, or the texts that are under way."""
    serve(deployment, "--processes", "2")
    page = open_page()
    open_connect(deployment, page)
    by_mouse(page, typed)
    expect(page.get_by_role("heading", level=2, name="Connected")).to_be_visible(timeout=20_000)
    deployment.settings |= {"TWILIO_ACCOUNT_SID": typed["twilio_account_sid"]}
    assert deployment.post(*deployment.signed("SM" + "1" * 32, "echo former")) == 200

    page.get_by_role("link", name="Twilio").click()
    page.get_by_label("Auth Token", exact=True).fill("another-token-0123456789")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="Review").click()
    expect(page.locator(".consequences")).to_contain_text("former auth token is accepted as well")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", level=2, name="Connected")).to_be_visible(timeout=20_000)
    deployment.auth_token = "another-token-0123456789"
    until(lambda: deployment.post(*deployment.signed("SM" + "2" * 32, "echo new")) == 200, 5)
    deployment.auth_token = typed["twilio_auth_token"]
    assert deployment.post(*deployment.signed("SM" + "3" * 32, "echo former again")) == 200

    page.get_by_role("link", name="Twilio").click()
    page.get_by_role("button", name="Retire the former token").click()
    expect(page.get_by_role("button", name=re.compile("Retire"))).to_have_count(0)
    numbers = iter(range(10**31, 10**32))
    until(lambda: deployment.post(*deployment.signed(f"SM{next(numbers)}", "echo late")) == 403, 5)
