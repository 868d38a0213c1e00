"""Weighs the console's pages, and times how soon each is painted, on a real deployment.

    python -m tests.flow.console_weight

Bytes are of the pages and of everything they load, each file once, compressed by gzip at its
default. A paint is the first one with contents, from the beginning of the navigation, in a browser
that has the files already: how it is from the second page on; the median of `LOOKS`.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Page, Response, sync_playwright

from tests.flow.browser import CHROMIUM, FLAGS
from tests.flow.conftest import Deployment
from tests.flow.console_stills import PAGES, WIDE, prepare
from tests.flow.console_walk import enter

MOST_BYTES = 80_000
MOST_MS = 100.0
LOOKS = 7

PAINTED = "performance.getEntriesByName('first-contentful-paint').map(each => each.startTime)[0]"


@dataclass(frozen=True)
class Weighed:
    """What came of it. pages: of each its bytes and ms to its paint. files: bytes of each file."""

    pages: dict[str, tuple[int, float]]
    files: dict[str, int]

    @property
    def whole(self) -> int:
        """Bytes of all pages and files together."""
        return sum(size for size, _ in self.pages.values()) + sum(self.files.values())


def weigh(deployment: Deployment, page: Page) -> Weighed:
    """Start the service, and open every page; a live page's stream is none of its weight."""
    deployment.serve()
    prepare(deployment)
    loaded: set[str] = set()

    def came(answer: Response) -> None:
        if "/console/static/" in answer.url:
            loaded.add(answer.url)

    page.on("response", came)
    pages: dict[str, tuple[int, float]] = {}
    for name, path in PAGES.items():
        if pages and page.url.endswith("/sign-in"):
            enter(deployment, page)
        url = f"{deployment.internal}{path}"
        size, paints = 0, []
        for _ in range(LOOKS):
            answer = page.goto(url)
            assert answer is not None
            assert answer.ok, f"{path} is answered {answer.status}"
            size = len(gzip.compress(answer.body()))
            paints.append(painted(page))
        pages[name] = size, statistics.median(paints)
    files = {url: len(gzip.compress(httpx.get(url).content)) for url in sorted(loaded)}
    return Weighed(pages, files)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


def painted(page: Page) -> float:
    """Wait for the first paint with contents; returns its ms."""
    while (at := page.evaluate(PAINTED)) is None:
        page.wait_for_timeout(5)
    return float(at)


def main() -> None:
    """Run a deployment, and print what its pages weigh."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        deployment = Deployment(Path(place))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            deployment.start_sandbox()
            found = weigh(deployment, browser.new_page(viewport=WIDE))
        finally:
            browser.close()
            deployment.close()
    for name, (size, ms) in found.pages.items():
        say(f"{name:16}{size:>8,} bytes {ms:>7.0f} ms")
    for url, size in found.files.items():
        say(f"{url.rpartition('/')[2]:28}{size:>8,} bytes")
    say(f"together{found.whole:>20,} bytes (at most {MOST_BYTES:,}; {MOST_MS:.0f} ms)")


if __name__ == "__main__":
    main()
