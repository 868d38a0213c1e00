"""What is told of the console's pages: their pictures, their weight, how soon they are seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.flow.browser import FLAGS
from tests.flow.conftest import ROOT, Deployment
from tests.flow.console_stills import LIMIT_BYTES, PAGES, WIDE, take_all
from tests.flow.console_walk import enter
from tests.flow.console_weight import MOST_BYTES, weigh
from tests.programs import program

BUSY_MS = 1_000.0
"""A machine on which other tests run paints late; `console_weight` tells what a quiet one does."""


@pytest.mark.long
def test_the_pictures_of_the_docs_can_be_taken(deployment: Deployment, tmp_path: Path) -> None:
    """The page about the console would show what nobody can see any more."""
    program("chromium", "chromium-browser", package="chromium")
    made = take_all(deployment, tmp_path)
    told = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    for still in made:
        assert 3_000 < still.stat().st_size < LIMIT_BYTES
        assert f"(console/{still.name})" in told
        assert (ROOT / "docs" / "console" / still.name).stat().st_size < LIMIT_BYTES


@pytest.mark.long
def test_the_pages_are_light_and_soon_there(deployment: Deployment) -> None:
    """Whoever is paged looks from a train."""
    chromium = program("chromium", "chromium-browser", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        found = weigh(deployment, browser.new_page(viewport=WIDE))
        page = browser.new_page()
        enter(deployment, page)
        hrefs = page.locator("nav a").evaluate_all("links => links.map(each => each.pathname)")
        browser.close()
    assert found.whole < MOST_BYTES
    assert max(ms for _, ms in found.pages.values()) < BUSY_MS
    weighed = {path.partition("?")[0] for path in PAGES.values()}
    unweighed = [href for href in hrefs if not any(path.startswith(href) for path in weighed)]
    assert unweighed == [], "a page of the navigation is not weighed"
