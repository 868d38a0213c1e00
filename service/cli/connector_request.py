"""`parley connector request`: ask the instance anything, with its token."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.asking import Yes, ask
from service.cli.printing import say, say_error, say_json
from service.cli.running import acting, run_on_deployment, settings_in_use
from service.cli.words import AsJson, examples
from service.errors import UsageError

if TYPE_CHECKING:
    from service.operate.deployment import Deployment
    from service.operate.hub_requests import HubAnswer

EXAMPLES = examples(
    "parley connector request GET /messages --query pageSize=5",
    "parley connector request GET /messages --query \"where=DateSent='2026-01-31'\"",
    "parley connector request POST /messages --data @message.json",
    "parley connector request GET /ping --curl",
)

SHOWN_CHARACTERS = 100_000
"""Of an answer's body: a terminal that scrolls on for minutes shows nothing."""

DATA_LIMIT_BYTES = 2_000_000
"""Read of a file or of standard input; what a request may hold is less."""

STANDARD_INPUT = "-"


def request(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="GET, HEAD, POST, PUT, PATCH or DELETE.")
    ],
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A resource of the instance, such as /messages.")
    ],
    query: Annotated[
        list[str] | None, typer.Option(help="name=value of the query; may be repeated.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The body: JSON, @file, or - for standard input.")
    ] = None,
    yes: Yes = False,
    curl: Annotated[
        bool, typer.Option("--curl", help="Print the request for curl; send nothing.")
    ] = False,
    python: Annotated[
        bool, typer.Option("--python", help="Print the request as a program; send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a request with the instance's token.

    Shows what is answered. The path is one of the instance's own (`parley connector docs`), never
    another address. What may change something, or send a text, asks first. Secrets are masked;
    with --curl and --python variables stand for them. Parley knows nothing of a text that is sent
    so. Status 1 for an error.
    """
    from service.core.open_connectors.hub_request import read_request

    if curl and python:
        raise UsageError("say --curl or --python, not both")
    asked = read_request(method, path, query or (), None if data is None else _read_data(data))
    if curl or python:
        from service.operate.hub_requests import write_curl, write_python

        written = (write_curl if curl else write_python)(settings_in_use(), asked)
        if as_json:
            say_json({"curl" if curl else "python": written})
        else:
            say(*written.split("\n"))
        return
    if asked.writes:
        if data == STANDARD_INPUT and not yes:
            raise UsageError(
                "--data -: standard input is the body, so nobody can answer: add --yes"
            )
        what = f"{asked.method} {asked.path} may change something, or send a text"
        ask(f"{what}. Send it?", yes=yes)
    from service.operate.hub_requests import send

    async def act(deployment: Deployment) -> HubAnswer:
        if not asked.writes:
            return await send(deployment, asked)
        # Without the query, which may have words or a number of somebody's.
        about = f"{asked.method} {asked.path.partition('?')[0]}"
        async with acting(deployment, "connector request", about) as noting:
            answered = await send(deployment, asked)
            noting.outcome = f"answered {answered.status}"
        return answered

    answer = run_on_deployment(act)
    _show(answer, as_json=as_json)
    if answer.error is not None:
        raise answer.error


def _read_data(said: str) -> str:
    """Return what --data means. Raises UsageError."""
    try:
        if said == STANDARD_INPUT:
            raw = sys.stdin.buffer.read(DATA_LIMIT_BYTES + 1)
        elif said.startswith("@"):
            with Path(said[1:]).open("rb") as file:
                raw = file.read(DATA_LIMIT_BYTES + 1)
        else:
            return said
        if len(raw) > DATA_LIMIT_BYTES:
            raise UsageError(f"--data {said}: longer than {DATA_LIMIT_BYTES} bytes")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--data {said}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--data {said}: is not UTF-8") from error


def _show(answer: HubAnswer, *, as_json: bool) -> None:
    took_ms = round(answer.took_s * 1000)
    if as_json:
        error = None if answer.error is None else str(answer.error)
        say_json(
            {
                "status": answer.status,
                "took_ms": took_ms,
                "headers": dict(answer.headers),
                "body": answer.body,
                "error": error,
            }
        )
        return
    say(f"{answer.status} in {took_ms} ms, {answer.body_bytes} bytes")
    say(*(f"{name}: {value}" for name, value in answer.headers.items()), "")
    if answer.body is None:
        return
    text = answer.body
    if not isinstance(text, str):
        text = json.dumps(answer.body, indent=2, ensure_ascii=False)
    say(*text[:SHOWN_CHARACTERS].splitlines())
    if len(text) > SHOWN_CHARACTERS:
        say_error(f"{len(text) - SHOWN_CHARACTERS} more characters; --json prints all of it.")
