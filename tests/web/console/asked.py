"""A console whose pages ask the real sandbox, and how its forms are read and sent."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx


class FormReader(HTMLParser):
    """Reads the forms of a page: where each is sent, and what a browser would send of it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._open: tuple[str, str] | None = None
        self._text = ""
        self._options: list[tuple[str | None, bool]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what begins."""
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((said.get("action", ""), {}))
        elif tag == "input" and self.forms and said.get("type") not in {"checkbox", "radio"}:
            self.forms[-1][1][said.get("name", "")] = said.get("value", "")
        elif tag in {"textarea", "select"}:
            self._open = (tag, said["name"])
            self._text, self._options = "", []
        elif tag == "option":
            self._options.append((said.get("value"), "selected" in said))
            self._text = ""

    def handle_data(self, data: str) -> None:
        """Take what is between tags."""
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        """Take what ends."""
        if tag == "option" and self._options[-1][0] is None:
            self._options[-1] = (self._text.strip(), self._options[-1][1])
        if self._open is None or tag != self._open[0]:
            return
        name, value = self._open[1], self._text.removeprefix("\n")
        if tag == "select":
            chosen = [each for each, selected in self._options if selected]
            value = str((chosen or [each for each, _ in self._options])[0])
        self.forms[-1][1][name] = value
        self._open = None


def form_on(page: str, action: str) -> dict[str, str]:
    """Return what a browser would send of the page's form with this action."""
    found = [fields for to, fields in FormReader(page).forms if re.split("[?#]", to)[0] == action]
    assert found, f"no form is sent to {action}"
    return found[0]


async def submit(browser: Any, page: str, action: str, changes: dict[str, str]) -> httpx.Response:
    """Send a page's form with these changes."""
    answer: httpx.Response = await browser.post(action, data=form_on(page, action) | changes)
    return answer
