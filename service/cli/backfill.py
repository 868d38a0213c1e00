"""`parley backfill`: read texts back that no callback brought."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.printing import say, say_json
from service.cli.running import acting, run_on_deployment
from service.cli.words import read_age
from service.errors import UsageError

if TYPE_CHECKING:
    from service.operate.deployment import Deployment


def backfill(
    since: Annotated[
        str, typer.Option(help="How far back: 30m, 2h, 1d, or a time such as 2026-11-23T08:00Z.")
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(help="A number of ours besides TWILIO_SENDER that had no text yet."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only count; accept nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Read back the texts that no callback brought.

    They are in the connector's message log, and are accepted. A running service does so by itself
    (BACKFILL_EVERY_S). What was accepted before is left alone.
    """
    from service.operate.instance import open_backfill
    from service.settings.forms import SENDER_FORMS
    from service.settings.setup import load_given

    given = load_given()
    settings = given.partial()
    for number in to or ():
        if not SENDER_FORMS.fullmatch(number):
            raise UsageError(f'--to {number}: a number is "+", country code and digits, no blanks')
    began = datetime.now(UTC)
    start = read_since(since, began)
    if began - start > timedelta(seconds=settings.dedupe_window_s):
        raise UsageError(
            f"--since {since}: MessageSids are remembered for {settings.dedupe_window_s} s "
            "(DEDUPE_WINDOW_S); older texts could be answered a second time"
        )

    async def run(deployment: Deployment) -> None:
        from rich.console import Console
        from rich.progress import Progress

        async with AsyncExitStack() as stack:
            backfill_ = await stack.enter_async_context(open_backfill(deployment))
            noting = None
            if not dry_run:
                about = f"since {start:%F %T} UTC"
                noting = await stack.enter_async_context(acting(deployment, "backfill", about))
            console = Console(stderr=True)
            with Progress(console=console, disable=not sys.stderr.isatty()) as bar:
                task = bar.add_task("reading the log", total=None)

                def show(done: int, of: int) -> None:
                    bar.update(task, description="accepting", completed=done, total=of)

                found = await backfill_.run(start, numbers=to or (), dry=dry_run, progress=show)
            if noting:
                noting.outcome = f"{found.read} read, {found.recovered} recovered"
        facts = {
            "since": start.isoformat(),
            "dry_run": dry_run,
            "read": found.read,
            "known": found.known,
            "missing" if dry_run else "recovered": found.recovered,
            "other_numbers": found.foreign,
        }
        if as_json:
            say_json(facts)
            return
        done = "missing; nothing was accepted" if dry_run else "recovered"
        say(
            f"{found.read} texts came since {start:%F %T} UTC: "
            f"{found.recovered} {done}, {found.known} accepted before."
        )
        if found.foreign:
            say(f"{found.foreign} to numbers not known as ours; --to names one that is.")

    run_on_deployment(run, given)


def read_since(text: str, now: datetime) -> datetime:
    """Read how far back: "2h", or a time in ISO 8601, taken for UTC if it does not say.

    Raises UsageError.
    """
    if (age := read_age("--since", text)) is not None:
        return now - age
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"--since {text}: write 30m, 2h, 1d or 2026-11-23T08:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise UsageError(f"--since {text}: that is still to come")
    return moment
