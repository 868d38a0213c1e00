"""What several commands share: examples in help, how long ago, options that say nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from service.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

LONGEST = timedelta(days=36_500)
"""A hundred years; what is longer was mistyped, and would overflow a date."""


def examples(*commands: str) -> str:
    """Write the end of a command's help: each example whole, on a line of its own."""
    # Click wraps no paragraph that begins with \b.
    return "\n".join(("\b", "Examples:" if len(commands) > 1 else "Example:", *commands))


def read_age(option: str, text: str) -> timedelta | None:
    """Read "90s", "30m", "1.5h" or "7d"; None when it is nothing of the kind.

    option: named in the error. Raises UsageError when it is longer than `LONGEST`.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd])", text.strip())
    if found is None:
        return None
    seconds = float(found[1]) * SECONDS[found[2]]
    if seconds > LONGEST.total_seconds():
        raise UsageError(f"{option} {text}: that is over a hundred years; the unit may be wrong")
    return timedelta(seconds=seconds)


def refuse_empty(**options: str | None) -> None:
    """Refuse options that are there and say nothing, as an unset variable of a script leaves them.

    Raises UsageError: taken for absent, `--older-than "$AGE"` would mean all there is.
    """
    for name, value in options.items():
        if value is not None and not value.strip():
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is empty; give it a value, or leave it out")
