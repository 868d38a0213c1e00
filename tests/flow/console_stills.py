"""Makes the pictures of docs/console.md from a real deployment.

    python -m tests.flow.console_stills docs/console

Sandbox, Redis and service are real; so is the browser. Each page of `PAGES` becomes one picture.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tests.flow.browser import CHROMIUM, FLAGS
from tests.flow.conftest import Deployment
from tests.flow.console_walk import address_of, enter

LIMIT_BYTES = 150_000
"""Of one picture: a page of documentation loads all of them."""

WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 390, "height": 844}

PAGES = {
    "sign-in": "/console/sign-in",
    "overview": "/console",
    "sessions": "/console/sessions",
    "audit": "/console/audit",
    "keyboard": "/console/keyboard",
}
"""Each picture's name, and the page it is of."""


def take(page: Page, base: str, name: str, path: str, folder: Path) -> Path:
    """Take the picture of one page."""
    page.goto(f"{base}{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    still = folder / f"{name}.png"
    page.screenshot(path=still)
    return still


def take_all(deployment: Deployment, folder: Path) -> list[Path]:
    """Take every picture: each page wide and light, the overview dark and narrow as well."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport=WIDE, reduced_motion="reduce", locale="en-GB")
            page.goto(address_of(deployment))
            made = [folder / "sign-in.png"]
            page.screenshot(path=made[0])
            enter(deployment, page)
            deployment.text("echo good morning")
            for name, path in PAGES.items():
                if name != "sign-in":
                    made.append(take(page, deployment.internal, name, path, folder))
            page.emulate_media(color_scheme="dark")
            made.append(take(page, deployment.internal, "overview-dark", "/console", folder))
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(NARROW)
            made.append(take(page, deployment.internal, "overview-narrow", "/console", folder))
        finally:
            browser.close()
    return made


def main(folder: Path) -> None:
    """Run a deployment, and take the pictures."""
    with tempfile.TemporaryDirectory() as place:
        deployment = Deployment(Path(place))
        try:
            deployment.start_sandbox()
            deployment.serve()
            made = take_all(deployment, folder)
        finally:
            deployment.close()
    large = [each for each in made if each.stat().st_size > LIMIT_BYTES]
    for each in made:
        sys.stdout.write(f"{each}: {each.stat().st_size:,} bytes\n")
    if large:
        sys.exit(f"more than {LIMIT_BYTES:,} bytes: {', '.join(map(str, large))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
