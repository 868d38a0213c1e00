"""`parley demo` and `parley routes`: a handlers file tried on a phone, and looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from service.cli.printing import print_table, say_json
from service.cli.words import examples
from service.errors import UsageError

DEMO_EXAMPLES = examples(
    "parley demo",
    "parley demo --once",
    "parley demo --connect",
    "parley demo --handlers my_handlers.py --reload",
)
ROUTES_EXAMPLES = examples("parley routes", "HANDLERS=my_handlers.py parley routes --json")


def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="End after the transcript; status 1 if a reply is missing."),
    ] = False,
    handlers: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Try your own handlers file on the phone."),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Start the service anew when the handlers file changes."),
    ] = False,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Start with nothing set up, for the Connect page."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65533,
            help="Port of the phone page; the service takes the next two. 0 takes free ones.",
            show_default="9090, or a free one if it is taken",
        ),
    ] = None,
) -> None:
    """Show a whole exchange, on this machine alone.

    It takes no account and no network; the servers are real.
    """
    from service.lab.demo import OF_THE_DEMO
    from service.lab.play import play_demo
    from service.settings.loading import explain_settings
    from service.settings.table import Settings

    if once and handlers:
        raise typer.BadParameter("--once plays the example's script; it can't judge other handlers")
    if once and connect:
        raise typer.BadParameter("--once plays a script; with --connect nobody could answer it")
    if reload and not handlers:
        raise typer.BadParameter("--reload watches the file that --handlers names; name it")
    known = {field.upper() for field in Settings.model_fields}
    settings, rest = {}, {}
    for name, value in os.environ.items():
        setting = name if name in known else name.removesuffix("_FILE")
        if setting not in known:
            rest[name] = value
        elif setting not in OF_THE_DEMO and not (once and setting == "HANDLERS"):
            settings[name] = value
    (redis,) = (row for row in explain_settings(None, rest | settings) if row.name == "REDIS_URL")
    if redis.source not in {"", "default"}:
        raise UsageError(
            f"REDIS_URL is set at {redis.source}, and a demo touches no Redis but its own; "
            "run it from another folder, or with another CONFIG_DIR"
        )
    raise typer.Exit(
        play_demo(
            once=once,
            handlers=handlers,
            reload=reload,
            connect=connect,
            port=port,
            settings=settings,
            environ=rest,
        )
    )


def routes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show what the handlers' routes take, in their order."""
    from service.wiring.routes import list_routes

    found = list_routes()
    if as_json:
        say_json([{"kind": each.kind, "takes": list(each.takes)} for each in found])
    else:
        rows = [((each.kind, ", ".join(each.takes) or "everything else"), None) for each in found]
        print_table(("route", "takes"), rows)
