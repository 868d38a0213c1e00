"""How pages write numbers, times and what the service counts. Pure.

The relative times are those of `static/console.js`, which keeps them going.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from service.core.plain_text import escape

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400


def ago(at: datetime, now: datetime) -> str:
    """Say how long ago something was, or how soon it will be: "3 min ago", "in 2 h"."""
    seconds = int((now - at).total_seconds())
    if abs(seconds) < 5:
        return "just now"
    return f"{lasting(seconds)} ago" if seconds > 0 else f"in {lasting(-seconds)}"


def lasting(seconds: float) -> str:
    """Write a length of time in its largest unit, rounded down: "12 s", "3 min", "5 h", "2 d"."""
    whole = int(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h"
    return f"{whole // DAY_S} d"


def exactly(at: datetime) -> str:
    """Write a time to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{int(value):,}"


def pieces(text: str) -> list[str]:
    """Write a reason as a sentence, in pieces; every second one was in `backticks`, and is code."""
    plain = escape(text)
    sentence = plain[:1].upper() + plain[1:]
    if sentence and sentence[-1] not in ".?!":
        sentence += "."
    return re.split(r"`([^`]+)`", sentence)


def plain_lines(text: str) -> str:
    """Write a text of several lines so that it can only be read."""
    return "\n".join(map(escape, text.split("\n")))


KEY = re.compile(r'( *)("(?:[^"\\]|\\.)*")(:.*)')


def json_lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Take JSON that was written to read apart: each line's blanks, its key, and the rest of it.

    A line without a key is all rest; so is each of a text that is none of JSON.
    """
    for line in text.split("\n"):
        found = KEY.fullmatch(line)
        yield (found[1], escape(found[2]), escape(found[3])) if found else ("", "", escape(line))


def as_json(value: Any) -> str:
    """Write a value as JSON to read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def short(value: Any, longest: int = 60) -> str:
    """Write a value of a row in one short line; "" for none."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape(text if len(text) <= longest else f"{text[: longest - 3]}...")


PARTS = {
    "redis": "Redis",
    "setup": "Setup",
    "instance": "Connector instance",
    "backfill": "Backfill",
    "clock": "Clock",
    "handlers": "Handlers",
    "readiness": "Readiness",
}
"""What the parts of /readyz are called on pages; tasks that failed go by their own names."""


def part(name: str) -> str:
    """Name a part of the service for people."""
    return PARTS.get(name, name[:1].upper() + name[1:])
