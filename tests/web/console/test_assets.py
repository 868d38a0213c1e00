"""What pages load."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from service.web.console.assets import FOLDER, Assets
from service.web.console.rendering import FOLDER as TEMPLATES

ROOT = Path(__file__).parents[3]

PUBLISHED = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "hx-sse.min.js": "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
    "htmx.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
}
"""The files of htmx.org 4.0.1, and the SHA-256 of each as its npm package has it."""


@pytest.mark.anyio
async def test_a_file_is_kept_for_good_under_the_name_of_its_content(browser: Any) -> None:
    """A browser would run yesterday's script on today's page, or fetch it for each page."""
    page = (await browser.get("/console/sign-in")).text
    loaded = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert len(loaded) == 4
    for path in loaded:
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert path.startswith(
            f"/console/static/{hashlib.sha256(answer.content).hexdigest()[:16]}-"
        )
    assert (await browser.get("/console/static/README.md")).status_code == 404
    assert (await browser.get("/console/static/..%2fapp.py")).status_code in {303, 404}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_not_ours_is_as_it_was_published(name: str) -> None:
    """A change would hide in a minified file."""
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_the_readme_names_the_version_that_is_there() -> None:
    """Nobody would know whether a defect of htmx is in it."""
    script = (FOLDER / "htmx.min.js").read_text(encoding="utf-8")
    (version,) = re.findall(r'this\.version="([\d.]+)"', script)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme.count(f"| {version} |") == 2
    assert {file.name for file in FOLDER.iterdir()} - {"README.md"} == set(
        re.findall(r"`([\w.-]+\.(?:css|js|svg|LICENSE))`", readme)
    )


def test_the_console_and_the_phone_page_have_the_same_colours_and_type() -> None:
    """They would look like two products."""
    phone = (ROOT / "service/lab/sandbox/page/page.css").read_text(encoding="utf-8")
    ours = (FOLDER / "tokens.css").read_text(encoding="utf-8")
    blocks = [re.findall(r":root \{[^}]*\}", css) for css in (phone, ours)]
    assert len(blocks[0]) == 2
    assert blocks[0] == blocks[1]
    others = [file for file in FOLDER.glob("*.css") if file.name != "tokens.css"]
    assert [file for file in others if ":root" in file.read_text(encoding="utf-8")] == []


def test_a_style_names_only_tokens_that_there_are() -> None:
    """A colour would be missing in one of the two schemes."""
    sheets = [file for file in FOLDER.glob("*.css") if file.name != "tokens.css"]
    styles = "".join(file.read_text("utf-8") for file in sheets)
    used = set(re.findall(r"var\((--[\w-]+)\)", styles))
    tokens = (FOLDER / "tokens.css").read_text(encoding="utf-8")
    assert used <= set(re.findall(r"^ +(--[\w-]+):", tokens, re.MULTILINE))


def test_a_file_of_another_kind_is_not_served() -> None:
    """Notes beside the files would be."""
    with pytest.raises(KeyError):
        Assets().path("README.md")


def test_each_symbol_is_drawn_somewhere() -> None:
    """Every browser would load what no page shows."""
    sources = [*TEMPLATES.glob("*.html"), *FOLDER.glob("*.js")]
    text = "".join(file.read_text("utf-8") for file in sources)
    symbols = re.findall(r'<symbol id="icon-([a-z]+)"', (FOLDER / "icons.svg").read_text("utf-8"))
    assert len(symbols) > 10
    drawn = set(re.findall(r"[\"']([a-z]+)[\"']|#icon-([a-z]+)", text))
    assert set(symbols) <= {name for pair in drawn for name in pair}


def test_a_template_imports_what_it_or_one_of_its_kind_uses() -> None:
    """Somebody would look for what a page does with it."""
    texts = {file.name: file.read_text("utf-8") for file in TEMPLATES.glob("*.html")}
    whole = "".join(texts.values())
    unused, seen = [], 0
    for name, text in texts.items():
        # What a template imports is there for those that extend it.
        used_in = whole if f'{{% extends "{name}" %}}' in whole else text
        for names in re.findall(r"\{% from .*? import (.*?) %\}", text):
            seen += 1
            unused += [
                f"{name}: {each}"
                for each in names.split(", ")
                if not re.search(rf"\b{each}\(", used_in)
            ]
    assert seen > 40
    assert unused == []
