"""JSON templates with `${NAME}` placeholders: `config/instance.json`, `config/message.json`. Pure.

A value that is one placeholder and nothing else keeps the type of what fills it (`${media}` stays a
list), and its key is left out when that is empty: a text without pictures has no `MediaUrl`.
Placeholders inside longer texts are filled as text. Keys are never filled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from service.errors import SettingsError

PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")

_encode = msgspec.json.Encoder().encode


class Template:
    """One template, checked when it is made.

    text: JSON of an object. place: file it came from, for errors. names: placeholders it may use.
    Raises SettingsError for malformed JSON or another placeholder, with file and line.
    """

    def __init__(self, text: str, *, place: str, names: Collection[str]) -> None:
        try:
            # Not strict: the documentation's own sample breaks a line inside the callback URL.
            body = json.loads(text, strict=False)
        except json.JSONDecodeError as error:
            raise SettingsError([f"{place}:{error.lineno}: {error.msg}"]) from error
        if not isinstance(body, dict):
            raise SettingsError([f"{place}:1: must be a JSON object, {{...}}"])
        known = ", ".join(f"${{{name}}}" for name in sorted(names))
        problems = [
            f"{place}:{number}: unknown placeholder ${{{found[1]}}}; there are {known}"
            for number, line in enumerate(text.splitlines(), start=1)
            for found in PLACEHOLDER.finditer(line)
            if found[1] not in names
        ]
        problems += [
            f'{place}:{number}: a "${{" without its "}}"'
            for number, line in enumerate(text.splitlines(), start=1)
            if "${" in PLACEHOLDER.sub("", line)
        ]
        # A placeholder may hide from that, its "$" written as an escape of JSON.
        problems = problems or [
            f"{place}:1: unknown placeholder ${{{name}}}; there are {known}"
            for part in _texts(body)
            for name in PLACEHOLDER.findall(part)
            if name not in names
        ]
        if problems:
            raise SettingsError(problems)
        self._body = body
        self.place = place

    @property
    def fields(self) -> Mapping[str, Any]:
        """The object as written, its placeholders unfilled."""
        return dict(self._body)

    def fill(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object with every placeholder filled from `values`."""
        filled = _fill(self._body, values)
        return dict(filled)

    def render(self, values: Mapping[str, Any]) -> bytes:
        """Return it filled, as JSON."""
        return _encode(_fill(self._body, values))

    def uses(self, name: str) -> bool:
        """Tell whether the template has this placeholder."""
        return any(name in PLACEHOLDER.findall(text) for text in _texts(self._body))


def _fill(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, dict):
        filled = {}
        for key, value in part.items():
            new = _fill(value, values)
            alone = isinstance(value, str) and PLACEHOLDER.fullmatch(value)
            if not (alone and new in (None, "", [], ())):
                filled[key] = new
        return filled
    if isinstance(part, list):
        return [_fill(item, values) for item in part]
    if isinstance(part, str):
        alone = PLACEHOLDER.fullmatch(part)
        if alone:
            return values[alone[1]]
        return PLACEHOLDER.sub(lambda found: str(values[found[1]]), part)
    return part


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for value in part.values():
            yield from _texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _texts(value)
    elif isinstance(part, str):
        yield part
