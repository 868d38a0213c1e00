"""What commands ask before they do something, and how they say that it is done."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from service.cli.printing import say, say_json
from service.errors import UsageError

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def ask(question: str, *, yes: bool) -> None:
    """Go on only if somebody says so. Raises UsageError where nobody is there to ask."""
    if yes:
        return
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageError("There is nobody to ask here: add --yes.") from None
    if not agreed:
        raise typer.Abort


def tell(as_json: bool, facts: dict[str, Any], sentence: str) -> None:
    """Say what was done, for scripts or for people."""
    if as_json:
        say_json(facts)
    else:
        say(sentence)
