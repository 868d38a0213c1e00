"""`parley dead`: look at, replay and drop what could not be handled or sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.printing import print_table, say, say_error, say_json
from service.cli.running import acting, run_on_deployment
from service.cli.words import AsJson, examples, read_age, refuse_empty
from service.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.operate.dead_letters import BulkResult
    from service.operate.deployment import Deployment

app = typer.Typer(
    help="Dead letters: what used up its attempts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Number = Annotated[str | None, typer.Option(help="Only with this number, theirs or ours.")]
OfRoute = Annotated[str | None, typer.Option(help='Only of this route, such as "keyword HELP".')]
Error = Annotated[str | None, typer.Option(help="Only with this in the error.")]
OlderThan = Annotated[str | None, typer.Option(help="Only given up longer ago, e.g. 30m, 2h, 7d.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids, as `parley dead list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="Every one that the filters let through.")]


@app.command(
    name="list",
    epilog=examples("parley dead list", "parley dead list --error 21610 --older-than 2h"),
)
def list_(
    number: Number = None,
    route: OfRoute = None,
    error: Error = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, each conversation in order."""
    from service.operate import dead_letters

    filters = _filters(number, route, error, older_than)
    found = run_on_deployment(lambda deployment: dead_letters.find(deployment, **filters))
    if as_json:
        say_json([dead_letters.as_json(letter) for letter in found])
        return
    if not found:
        say("There are no dead letters" + (" like that." if filters else "."))
        return
    print_table(
        ("id", "kind", "given up", "number", "tries", "route", "error"),
        [
            (
                (
                    letter.id,
                    letter.kind,
                    f"{letter.at:%Y-%m-%d %H:%M:%S}",
                    letter.theirs,
                    str(letter.tries),
                    letter.route,
                    dead_letters.say_error(letter),
                ),
                None,
            )
            for letter in found
        ],
        below=2,
    )
    say(f"{len(found)} in all. Next: parley dead show ID, replay ID, drop ID")


@app.command(epilog=examples("parley dead show 7-1700000000000-0"))
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `parley dead list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole, the text included."""
    from service.operate import dead_letters

    letter = run_on_deployment(lambda deployment: dead_letters.get(deployment, id_))
    if letter is None:
        say_error(f"no such dead letter: {id_}; `parley dead list` shows what there is")
        raise typer.Exit(1)
    shown = dead_letters.as_json(letter)
    if as_json:
        say_json(shown)
        return
    traceback = shown.pop("traceback", "")
    say(
        *(f"{name:8} {value}" for name, value in shown.items()),
        *(f"    {line}" for line in traceback.splitlines()),
    )


@app.command(
    epilog=examples(
        "parley dead replay 7-1700000000000-0", "parley dead replay --all --error 'time-out'"
    )
)
def replay(
    ids: Ids = None,
    all_: All = False,
    number: Number = None,
    route: OfRoute = None,
    error: Error = None,
    older_than: OlderThan = None,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into their inboxes, in conversation order.

    A message is handled again with all its attempts. A reply is sent without asking whether an
    earlier attempt arrived: look at its error first. Status 1 if one is gone, or has to stay
    because its inbox is full.
    """
    filters = _filters(number, route, error, older_than)
    _act("replay", ids, all_, filters, yes=True, as_json=as_json)


@app.command(epilog=examples("parley dead drop --all --older-than 30d --yes"))
def drop(
    ids: Ids = None,
    all_: All = False,
    number: Number = None,
    route: OfRoute = None,
    error: Error = None,
    older_than: OlderThan = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters for good; asks first.

    Status 1 if one is gone already, or if the answer is no.
    """
    filters = _filters(number, route, error, older_than)
    _act("drop", ids, all_, filters, yes=yes, as_json=as_json)


def _act(
    what: str,
    ids: list[str] | None,
    all_: bool,
    filters: dict[str, Any],
    *,
    yes: bool,
    as_json: bool,
) -> None:
    from service.operate import dead_letters

    if bool(ids) == all_:
        raise UsageError(f"say which: parley dead {what} ID ..., or parley dead {what} --all")
    if ids and filters:
        raise UsageError("filters go with --all; ids are meant as they are")
    chosen = ids or [
        letter.id
        for letter in run_on_deployment(lambda deployment: dead_letters.find(deployment, **filters))
    ]
    past = "replayed" if what == "replay" else "dropped"
    if not chosen:
        if as_json:
            say_json({past: 0, "missing": [], "full": []})
        else:
            say("There are no dead letters like that.")
        return
    if not yes and not typer.confirm(f"Delete {len(chosen)} dead letters for good?", err=True):
        raise typer.Exit(1)
    act = dead_letters.replay if what == "replay" else dead_letters.drop
    with _progress() as bar:
        task = bar.add_task(what, total=len(chosen))

        async def run(deployment: Deployment) -> BulkResult:
            async with acting(deployment, f"dead {what}", _named(chosen)) as noting:
                done = await act(deployment, chosen, lambda n: bar.update(task, completed=n))
                noting.outcome = _counted(done, past)
            return done

        done = run_on_deployment(run)
    if as_json:
        say_json({past: done.done, "missing": list(done.missing), "full": list(done.full)})
    else:
        _tell(done, past)
    if done.missing or done.full:
        raise typer.Exit(1)


NAMED = 5
"""Ids that the audit trail has of one command; of a thousand, their number says more."""


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more


def _counted(done: BulkResult, past: str) -> str:
    counts = {past: done.done, "missing": len(done.missing), "full": len(done.full)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or f"0 {past}"


def _tell(done: BulkResult, past: str) -> None:
    say(f"{done.done} {past}.")
    for id_ in done.missing:
        say_error(f"{id_}: there is no such dead letter (any more)")
    if done.full:
        say_error(
            f"{len(done.full)} stay dead letters for now: their inboxes are full; try again later"
        )


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _filters(
    number: str | None, route: str | None, error: str | None, older_than: str | None
) -> dict[str, Any]:
    """Return what to ask of `operate.dead_letters.find`, {} without filters. Raises UsageError."""
    refuse_empty(number=number, error=error, older_than=older_than)
    # The route of a message that none matched is "".
    filters: dict[str, Any] = {"number": number, "route": route, "error": error}
    if older_than is not None:
        age = read_age("--older-than", older_than)
        if age is None:
            raise UsageError(
                f"--older-than {older_than}: say a number and a unit, such as 30m, 2h or 7d"
            )
        filters["before"] = datetime.now(UTC) - age
    return {name: value for name, value in filters.items() if value is not None}
