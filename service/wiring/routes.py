"""The routes of the handlers file that the settings name, as plain values."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from service.core.matching import Default, Keyword, Matcher, Pattern
from service.handlers.loading import load_router
from service.settings.sources import gather


class Route(NamedTuple):
    """What a route takes.

    kind: "keyword", "pattern", "to" or "default". takes: its words, its expression or its number;
    none for a default.
    """

    kind: str
    takes: tuple[str, ...]


def list_routes() -> list[Route]:
    """Load the handlers and return their routes, in the order in which they are tried.

    Needs no other setting, as authors have no account. What the file prints while it is loaded goes
    to standard error. Raises HandlersError.
    """
    found = gather(None, os.environ, {}).found
    with contextlib.redirect_stdout(sys.stderr):
        router = load_router(str(found["handlers"].value), Path(str(found["config_dir"].value)))
    return [_route(matcher) for matcher in router.matchers]


def _route(matcher: Matcher) -> Route:
    match matcher:
        case Keyword():
            return Route("keyword", matcher.words)
        case Pattern():
            return Route("pattern", (matcher.expression.pattern,))
        case Default():
            return Route("default", ())
        case _:
            return Route("to", (matcher.number,))
