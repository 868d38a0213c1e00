"""`parley check`: whether a start would succeed, as far as files and settings decide it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.printing import print_table, say, say_error, say_json
from service.errors import OPERATOR_MUST_MEND

if TYPE_CHECKING:
    from service.operate.checking import Findings


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Load what a start would load, and say what is wrong.

    Settings, instance.json, message.json and the handlers; neither Redis nor the connector is
    asked. Ends 2, as a start would, for what has to be mended first; a warning does not count.
    """
    from service.wiring.checking import check_start

    with redirect_stdout(sys.stderr):  # What a handlers file prints is no part of the answer.
        found = check_start()
    if as_json:
        say_json(
            {
                "ok": not found.problems,
                "problems": list(found.problems),
                "warnings": list(found.handlers.doubts),
                "untyped": list(found.untyped),
                "unchecked": list(found.unchecked),
                "settings": {"in_effect": found.settings, "given": found.given},
                "files": [str(path) for path in found.files],
                "handlers": found.handlers_at,
                "routes": [{"route": route, "at": at} for route, at in found.handlers.routes],
            }
        )
    else:
        _tell(found)
    if found.problems:
        raise typer.Exit(OPERATOR_MUST_MEND)


def _tell(found: Findings) -> None:
    say(f"{found.settings} settings are in effect, {found.given} of them set by somebody.")
    say(*(f"{path} is read." for path in found.files))
    routes = found.handlers.routes
    if routes:
        say(f"{found.handlers_at} has {len(routes)} routes, tried in this order:")
        rows = [((str(number), *row), None) for number, row in enumerate(routes, start=1)]
        print_table(("", "route", "at"), rows)
    say_error(*(f"Hardly ever reached: {doubt}" for doubt in found.handlers.doubts))
    for problem in found.problems:
        say_error(*problem.split("\n"))
    if found.unchecked:
        say_error(f"{' and '.join(found.unchecked)} can be checked once the settings are right.")
    if found.untyped and not found.problems:
        say_error(
            f"Nobody has set {', '.join(found.untyped)}: the service answers no text until they "
            "are typed (parley connect, or Connect in the console)."
        )
    if not found.problems:
        say("All is well: `parley serve` would start.")
