"""Makes docs/phone.png from the real demo: `python -m tests.flow.phone_still docs/phone.png`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright
from rich.console import Console

from service.lab.demo import Demo
from tests.flow.browser import CHROMIUM, FLAGS

LIMIT_BYTES = 200_000
"""A page of documentation loads it."""

TEXTS = ("Hello!", "echo good morning", "Where is order A-1001?")


def picture(page: Page, url: str, path: Path) -> None:
    """Text the service from a page that is open, and take the still."""
    page.goto(url)
    replies = page.locator("#thread [data-direction=reply]")
    for place, text in enumerate(TEXTS, start=1):
        page.locator("#composer").fill(text)
        page.locator("#composer").press("Enter")
        expect(replies).to_have_count(place)
    row = page.locator(".wire-row").filter(has_text="/messages").first
    row.locator("summary").click()
    expect(row.locator(".wire-exchange h3")).to_have_count(2)
    page.locator("#composer").focus()
    page.screenshot(path=path)


def main(path: Path) -> None:
    """Run the demo, and a browser on it."""
    with (
        Demo(None, Console(file=io.StringIO())) as demo,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(
            viewport={"width": 1280, "height": 760}, reduced_motion="reduce", locale="en-GB"
        )
        picture(page, demo.addresses.sandbox, path)
        browser.close()
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        sys.exit(f"{path} has {size} bytes, more than {LIMIT_BYTES}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
