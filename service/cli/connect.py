"""`parley connect`: type the credentials of Open Connectors and Twilio, and use them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.asking import Yes, ask
from service.cli.printing import say, say_error, say_json
from service.cli.running import person, run_on_deployment
from service.cli.words import AsJson, examples
from service.errors import ConnectorError, SettingsError, UsageError

if TYPE_CHECKING:
    from service.operate.deployment import Deployment
    from service.operate.setup import Setup, SetupEntry

EXAMPLES = examples(
    "parley connect",
    "parley connect --file setup.json --plan",
    "parley connect --file setup.json --yes --json",
    "parley connect --retire-token",
)

STEPS = (
    (
        "Open Connectors",
        (
            "open_connectors_base_url",
            "open_connectors_user_secret",
            "open_connectors_organization_secret",
        ),
    ),
    ("Twilio", ("twilio_account_sid", "twilio_auth_token", "twilio_sender")),
    ("Instance", ("connector_element", "event_signature_key", "instance_name", "instance_tag")),
)
"""What is asked for, in the order of the console's Connect page."""

STANDARD_INPUT = "-"


def connect(
    file: Annotated[
        str | None,
        typer.Option(
            "--file", help="Read it from a JSON file shaped like instance.json; - for stdin."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what it would do; use nothing.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Forget what was typed and is not in use.")
    ] = False,
    retire_token: Annotated[
        bool, typer.Option("--retire-token", help="Accept the former auth token no more.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set the service up: type its credentials, and use them.

    Asks step by step, shows the plan, and asks before anything is used. What is typed is kept
    sealed in Redis (SECRET_KEY), and every process takes it within two seconds. What settings give
    wins, and is not asked for. A new auth token leaves the former one accepted until
    --retire-token.
    """
    if discard + retire_token + (file is not None or plan) > 1:
        raise UsageError("say one of --discard, --retire-token, and --file with or without --plan")
    if not (file or discard or retire_token) and (as_json or not sys.stdin.isatty()):
        raise UsageError("there is nobody to ask here: name a file with --file")
    text = None if file is None else _read(file)

    async def act(deployment: Deployment) -> dict[str, Any]:
        async with _open_setup(deployment) as setup:
            if discard:
                await setup.discard(who=person(), via="command")
                return {"discarded": True}
            if retire_token:
                return {"version": await setup.retire_token(who=person(), via="command")}
            if text is not None:
                await _type_file(setup, text, file or "")
            else:
                await _type_all(setup)
            return await _use(setup, plan_only=plan, yes=yes, quiet=as_json)

    done = run_on_deployment(act)
    if as_json:
        say_json(done)
    elif discard:
        say("What was typed is forgotten.")
    elif retire_token:
        say(f"The former auth token is accepted no more (setup {done['version']}).")
    elif not plan:
        say(
            f"Setup {done['version']} is in use: every process takes it within two seconds.",
            "`parley ready --wait 30` tells when texts are answered.",
        )


@asynccontextmanager
async def _open_setup(deployment: Deployment) -> AsyncIterator[Setup]:
    from service.operate.deployment import open_store
    from service.operate.setup import Setup

    if deployment.given is None:
        raise SettingsError(["the settings of this deployment leave nothing to set up"])
    async with open_store(deployment) as (client, _):
        setup = Setup(client, deployment.given)
        if problem := (await setup.look()).problem:
            say_error(problem)
        yield setup


async def _type_file(setup: Setup, text: str, file: str) -> None:
    from service.core.open_connectors.setup_file import read_setup

    values = read_setup(text, "standard input" if file == STANDARD_INPUT else file)
    fixed = [
        f"{each.name} is given by {each.source}, which wins; it is left alone"
        for each in (await setup.look()).entries.values()
        if each.fixed and each.field in values
    ]
    say_error(*fixed)
    state = await setup.type(values, who=person())
    problems = [each.problem for each in state.entries.values() if each.problem]
    if problems:
        raise SettingsError(problems)


async def _type_all(setup: Setup) -> None:
    """Ask for everything, step by step; what is wrong is asked for again."""
    for number, (title, fields) in enumerate(STEPS, start=1):
        say("", f"{number}. {title}")
        while True:
            typed = await _type_step(setup, fields)
            if number > 1:
                break
            try:
                say(f"  {await setup.check_access()}")
                break
            except ConnectorError as error:
                if not typed:  # It would be asked the same for ever.
                    raise
                say_error(f"  {error} ({error.advice})")


async def _type_step(setup: Setup, fields: Sequence[str]) -> bool:
    """Ask for the fields of a step; tell whether any of them could be typed."""
    state, typed = await setup.look(), False
    for each in fields:
        entry = state.entries[each]
        if each == "event_signature_key" and state.element != "twiliov2":
            continue
        if entry.fixed:
            say(f"  {entry.name}: given by {entry.source}")
            if entry.problem:
                raise SettingsError([entry.problem])
            continue
        typed = True
        while True:
            state = await setup.type({each: _ask_for(entry)}, who=person())
            entry = state.entries[each]
            if not entry.problem:
                break
            say_error(f"  {entry.problem} {entry.means}")
    return typed


def _ask_for(entry: SetupEntry) -> str:
    if entry.secret:
        hint = " (kept; Enter keeps it)" if entry.kept else ""
        return str(
            typer.prompt(f"  {entry.name}{hint}", default="", hide_input=True, show_default=False)
        )
    return str(typer.prompt(f"  {entry.name}", default=entry.value, show_default=bool(entry.value)))


async def _use(setup: Setup, *, plan_only: bool, yes: bool, quiet: bool) -> dict[str, Any]:
    seen = (await setup.look()).seen
    found = await setup.plan()
    lines = found.lines()
    if not quiet:
        say("", *(lines or ["The connector has what is wanted; nothing to do there."]))
    if plan_only:
        return {"plan": lines, "used": False}
    ask("Use it from now on?", yes=yes)
    return {
        "plan": lines,
        "used": True,
        "version": await setup.apply(who=person(), via="command", seen=seen),
    }


def _read(file: str) -> str:
    try:
        if file == STANDARD_INPUT:
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UsageError(f"--file {file}: can't be read: {reason}") from error
