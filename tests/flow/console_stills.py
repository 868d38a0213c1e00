"""Makes the pictures of docs/console.md from a real deployment.

    python -m tests.flow.console_stills docs/console

Sandbox, Redis and service are real; so is the browser. The service begins with nothing set up and
is set up by its Connect page, so that each of these pages has something on it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tests.flow.browser import CHROMIUM, FLAGS
from tests.flow.conftest import Deployment
from tests.flow.console_walk import TYPED, address_of, enter, serve_bare
from tests.flow.test_connector import platform

LIMIT_BYTES = 150_000
"""Of one picture: a page of documentation loads all of them."""

WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 390, "height": 844}

PAGES = {
    "sign-in": "/console/sign-in",
    "overview": "/console",
    "connect-access": "/console/connect/access",
    "connect-twilio": "/console/connect/twilio",
    "connect-instance": "/console/connect/instance",
    "connect-review": "/console/connect/review",
    "connect-done": "/console/connect/done",
    "instance": "/console/instance",
    "instance-replace": "/console/instance/rotate",
    "docs": "/console/docs",
    "operation": "/console/docs?operation=createMessage",
    "request": "/console/request?operation=createMessage",
    "mapping": "/console/mapping",
    "mapping-edit": "/console/mapping/edit?name=texts",
    "formulas": "/console/formulas",
    "sessions": "/console/sessions",
    "audit": "/console/audit",
    "keyboard": "/console/keyboard",
}
"""Each page's name, and where it is; signed in and set up, but for the first one."""

AS_THEY_ARE = tuple(name for name in PAGES if name != "sign-in" and not name.startswith("connect"))
"""Those that are opened for their picture; the others' are taken on the way."""

COMMON = {"fields": [{"path": name, "type": "string"} for name in ("id", "from", "text")]}

TEMPLATE = {
    "name": "Copy texts to a sheet",
    "description": "Writes a row for every text that arrives.",
    "active": True,
    "triggers": [],
    "steps": [],
    "configuration": [
        {"key": "trigger_instance", "name": "The number's instance", "type": "elementInstance"},
        {"key": "sheet", "name": "Sheet", "type": "value"},
    ],
}


class Stills:
    """Takes pictures of one browser's page into a folder. made: those taken."""

    def __init__(self, page: Page, base: str, folder: Path) -> None:
        self.page = page
        self.made: list[Path] = []
        self._base = base
        self._folder = folder

    def take(self, name: str, path: str = "") -> None:
        """Take the picture of the page that is open, or of another one."""
        if path:
            self.page.goto(f"{self._base}{path}")
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()
        self.page.evaluate("scrollTo(0, 0)")
        self.made.append(self._folder / f"{name}.png")
        self.page.screenshot(path=self.made[-1])


def connect(stills: Stills, typed: Mapping[str, str]) -> None:
    """Set the service up by its pages, and take each one's picture."""
    page, fields = stills.page, list(typed)
    page.goto(page.url.rstrip("/") + "/connect")
    page.get_by_label("Another").check()
    for field in fields[:3]:
        page.locator(f"#{field}").fill(typed[field])
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#answer")).to_contain_text("Open Connectors takes these secrets")
    stills.take("connect-access")
    page.get_by_role("button", name="Continue").click()
    for field in fields[3:]:
        page.locator(f"#{field}").fill(typed[field])
    stills.take("connect-twilio")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#callback-url")).to_contain_text("/callbacks/twilio")
    stills.take("connect-instance")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".plan-lines")).to_contain_text("create an instance")
    stills.take("connect-review")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", level=2, name="Connected")).to_be_visible(timeout=20_000)


def take_all(deployment: Deployment, folder: Path) -> list[Path]:
    """Take every picture: each page wide and light; the overview dark and narrow as well."""
    folder.mkdir(parents=True, exist_ok=True)
    typed = {name.lower(): deployment.settings.pop(name) for name in TYPED}
    serve_bare(deployment)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport=WIDE, reduced_motion="reduce", locale="en-GB")
            stills = Stills(page, deployment.internal, folder)
            page.goto(address_of(deployment))
            stills.take("sign-in")
            enter(deployment, page)
            connect(stills, typed)
            deployment.settings |= {name: typed[name.lower()] for name in TYPED}
            prepare(deployment)
            expect(page.locator(".exchange dd.count").first).to_have_text("1", timeout=15_000)
            stills.take("connect-done")
            for name in AS_THEY_ARE:
                stills.take(name, PAGES[name])
            page.emulate_media(color_scheme="dark")
            stills.take("overview-dark", PAGES["overview"])
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(NARROW)
            stills.take("overview-narrow", PAGES["overview"])
        finally:
            browser.close()
    return stills.made


def prepare(deployment: Deployment) -> None:
    """Have a text answered, and a common resource and a formula at the connector."""
    deployment.text("echo good morning")
    platform(deployment, "POST", "/organizations/objects/texts/definitions", COMMON)
    platform(deployment, "POST", "/formulas", TEMPLATE)


def main(folder: Path) -> None:
    """Run a deployment, and take the pictures."""
    with tempfile.TemporaryDirectory() as place:
        deployment = Deployment(Path(place))
        try:
            deployment.start_sandbox()
            made = take_all(deployment, folder)
        finally:
            deployment.close()
    for each in made:
        sys.stdout.write(f"{each}: {each.stat().st_size:,} bytes\n")
    if large := [each for each in made if each.stat().st_size > LIMIT_BYTES]:
        sys.exit(f"more than {LIMIT_BYTES:,} bytes: {', '.join(map(str, large))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
