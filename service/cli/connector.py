"""`parley connector`: the instance at Open Connectors, as it is and as it should be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from service.cli import connector_docs, connector_formula, connector_map, connector_request
from service.cli.asking import Yes, ask, tell
from service.cli.printing import print_table, say, say_error, say_json
from service.cli.running import acting, person, run_on_deployment
from service.cli.words import AsJson, examples
from service.errors import UsageError

if TYPE_CHECKING:
    from service.operate.deployment import Deployment

AnyProvisioner = Any
"""What `operate.instance.open_provisioner` yields; commands know no part of the service."""

SOMETHING_TO_DO = 3
"""Exit status of `plan --exit-code`; 1 and 2 are errors, as everywhere."""

app = typer.Typer(
    help="The instance at Open Connectors, and putting it right.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Result = TypeVar("Result")

Noted = Callable[[], AbstractAsyncContextManager[Any]]
"""Begins what is noted in the audit trail: after the question whether to do it at all."""


@app.command(epilog=examples("parley connector plan", "parley connector plan --exit-code"))
def plan(
    as_json: AsJson = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with status 3 if there is something to do.")
    ] = False,
) -> None:
    """Show what `apply`, and the next start, would change. Changes nothing."""
    found = _run(lambda provisioner: provisioner.plan())
    status = SOMETHING_TO_DO if found and exit_code else 0
    if as_json:
        steps = [
            {
                "do": step.kind,
                "instance": step.instance,
                "changes": [
                    {"entry": each.entry, "old": each.old, "new": each.new} for each in step.changes
                ],
            }
            for step in found.steps
        ]
        say_json({"changes": bool(found), "steps": steps})
        raise typer.Exit(status)
    say(*(found.lines() or ["The connector has what is wanted; nothing to do."]))
    raise typer.Exit(status)


@app.command(epilog=examples("parley connector apply"))
def apply(as_json: AsJson = False) -> None:
    """Do what `plan` shows: create, enable or update the instance."""

    async def act(provisioner: AnyProvisioner, noted: Noted) -> tuple[list[str], str]:
        lines = (await provisioner.plan()).lines()
        if not as_json:
            say(*lines)
        async with noted() as noting:
            id_ = (await provisioner.ensure()).id
            noting.about = f"instance {id_}"
            noting.outcome = "done" if lines else "nothing to do"
        return lines, id_

    lines, id_ = _act("apply", act)
    tell(as_json, {"instance": id_, "done": lines}, f"Instance {id_} is as it should be.")


@app.command(epilog=examples("parley connector show --json", "parley connector show --token"))
def show(
    as_json: AsJson = False,
    token: Annotated[
        bool, typer.Option("--token", help="Print the instance token alone, in the clear.")
    ] = False,
) -> None:
    """Show our instance, as this Redis and the connector know it.

    With --token, its secret: who asked is kept in the audit trail, before anything is printed.
    """
    if token:
        _show_token(as_json)
        return
    kept, found = _run(lambda provisioner: provisioner.current())
    if kept is None:
        tell(
            as_json, {"instance": None}, "This Redis has no instance; see `parley connector plan`."
        )
        raise typer.Exit(1)
    shown: dict[str, Any] = {
        "instance": kept.id,
        "name": kept.name,
        "tags": list(kept.tags),
        "callback_url": kept.callback_url,
        "at_the_connector": found is not None,
    }
    if found is not None:
        configuration = dict(found.configuration)
        shown |= {"disabled": found.disabled, "configuration": configuration}
    if as_json:
        say_json(shown)
        return
    for name, value in shown.items():
        if isinstance(value, dict):
            say(*(f"  {key}: {each}" for key, each in value.items()))
        else:
            say(f"{name.replace('_', ' ')}: {value}")
    if found is None:
        say("The connector does not know it any more; see `parley connector plan`.")


def _show_token(as_json: bool) -> None:
    async def read(provisioner: AnyProvisioner, noted: Noted) -> tuple[str, str]:
        kept = await provisioner.kept()
        async with noted() as noting:
            noting.about = f"instance {kept.id}"
        return kept.id, kept.token

    id_, token = _act("show --token", read)
    tell(as_json, {"instance": id_, "token": token}, token)


@app.command(epilog=examples("parley connector check"))
def check(as_json: AsJson = False) -> None:
    """Compare message.json with the instance's API description.

    Sends and changes nothing.     Status 1 when something has to be changed in the file.
    """
    from service.operate.instance import check_message

    file, found = run_on_deployment(check_message)
    if as_json:
        findings = [
            {"kind": each.kind, "field": each.field, "instead": each.instead, "text": str(each)}
            for each in found.findings
        ]
        described = list(found.described)
        say_json({"file": file, "findings": findings, "described": described})
    elif found.findings:
        say(f"{file} differs from what the instance describes:")
        say(*(f"  {each}" for each in found.findings))
        say(f"It describes: {', '.join(found.described)}.")
        say("A description need not be whole: while your replies are taken, leave the file.")
    else:
        say(f"{file} fits what the instance describes.")
    if found.findings:
        raise typer.Exit(1)


@app.command(epilog=examples("parley connector rotate --yes"))
def rotate(yes: Yes = False, as_json: AsJson = False) -> None:
    """Take a new instance, with a new token, for the one there is.

    The new one is made and kept before the old one is deleted; a running service notices, and sends
    what was refused meanwhile. (A new Twilio auth token needs only the setting, and `apply`.)
    """

    async def act(provisioner: AnyProvisioner, noted: Noted) -> tuple[str, list[str] | None]:
        using = _warn_of(await provisioner.formulas(), "give them the new one")
        ask("Replace the instance by a new one?", yes=yes)
        async with noted() as noting:
            id_ = (await provisioner.replace()).id
            noting.about = f"instance {id_}"
        return id_, using

    id_, using = _act("rotate", act)
    facts = {"instance": id_, "formulas": using}
    tell(as_json, facts, f"Instance {id_} is in use now.")


@app.command(epilog=examples("parley connector disable"))
def disable(yes: Yes = False, as_json: AsJson = False) -> None:
    """Switch our instance off. A running service switches it on again (CONNECTOR_REPAIR)."""
    ask("Switch the instance off? No reply leaves meanwhile.", yes=yes)
    id_ = _change("disable", lambda provisioner: provisioner.switch(on=False))
    tell(as_json, {"instance": id_, "disabled": True}, f"Instance {id_} is switched off.")


@app.command(epilog=examples("parley connector enable"))
def enable(as_json: AsJson = False) -> None:
    """Switch our instance on."""
    id_ = _change("enable", lambda provisioner: provisioner.switch(on=True))
    tell(as_json, {"instance": id_, "disabled": False}, f"Instance {id_} is switched on.")


@app.command(epilog=examples("parley connector take", "parley connector take 1234"))
def take(
    id_: Annotated[
        str | None, typer.Argument(metavar="ID", help="Of an instance; without it, list them.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take over an instance that was made elsewhere.

    It gets our tag, name, callback URL and secrets, and keeps its token. The instance of before
    stays at the connector, without our tag; `take` takes it back as well.
    """
    if id_ is None:
        _list_candidates(as_json)
        return
    if not id_.strip():
        raise UsageError("ID is empty; leave it out to list instances")

    async def act(provisioner: AnyProvisioner, noted: Noted) -> Any:
        lines = (await provisioner.plan_take(id_)).lines()
        if not as_json:
            say(*lines)
        ask(f"Use instance {id_} from now on?", yes=yes)
        async with noted() as noting:
            noting.about = f"instance {id_}"
            taken = await provisioner.take(id_)
        return lines, taken

    lines, taken = _act("take", act)
    using = _warn_of(taken.formulas, "they still name it; give them the new one")
    if taken.former and not taken.untagged:
        say_error(f"Instance {taken.former} keeps our tag: take it off, or delete the instance.")
    facts = {"instance": taken.instance.id, "former": taken.former or None}
    left = f" Instance {taken.former} stays at the connector." if taken.former else ""
    tell(
        as_json,
        facts | {"untagged": taken.untagged, "formulas": using, "done": lines},
        f"Instance {taken.instance.id} is in use now.{left}",
    )


def _list_candidates(as_json: bool) -> None:
    found = _run(lambda provisioner: provisioner.candidates())
    if as_json:
        say_json([asdict(each) for each in found])
        return
    if not found:
        say("The connector has no instance yet; `parley connector apply` makes one.")
        return
    rows = [
        (
            each.id,
            each.name,
            each.account or "(not told)",
            "in use" if each.ours else each.why_not or "can be taken over",
            each.callback_url,
        )
        for each in found
    ]
    titles = ("id", "name", "account", "state", "callback URL")
    print_table(titles, [(cells, None) for cells in rows], below=2)
    say("Next: parley connector take ID")


@app.command(epilog=examples("parley connector remove --yes"))
def remove(yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete our instance at the connector, and here.

    For the end of a deployment: a service that still runs makes another one.
    """

    async def act(provisioner: AnyProvisioner, noted: Noted) -> tuple[str, list[str] | None]:
        using = _warn_of(await provisioner.formulas(), "they stop without it")
        ask("Delete the instance? No text arrives and no reply leaves without one.", yes=yes)
        async with noted() as noting:
            id_: str = await provisioner.remove()
            noting.about = f"instance {id_}"
        return id_, using

    id_, using = _act("remove", act)
    tell(as_json, {"removed": id_, "formulas": using}, f"Instance {id_} is deleted.")


@app.command(epilog=examples("SECRET_KEY=new,former parley connector rekey"))
def rekey(as_json: AsJson = False) -> None:
    """Seal what Redis holds sealed with the first SECRET_KEY.

    That is the instance token and the setup. The other keys can go afterwards.
    """
    from service.operate.setup import reseal

    run_on_deployment(lambda deployment: reseal(deployment, who=person()))
    id_ = _change("rekey", lambda provisioner: provisioner.rekey())
    tell(as_json, {"instance": id_}, f"The token of instance {id_} is sealed with the first key.")


@app.command(epilog=examples("parley connector forget --yes"))
def forget(yes: Yes = False, as_json: AsJson = False) -> None:
    """Forget the instance in this Redis alone.

    For a lost SECRET_KEY. The connector keeps it, and messages stay where they are. A running
    service, or the next start or `apply`, adopts it by its tag; where the connector does not show
    its token, another is made.
    """
    ask("Forget the instance here? Another may be made for it.", yes=yes)
    _change("forget", lambda provisioner: provisioner.forget())
    tell(as_json, {"forgotten": True}, "This Redis has no instance now; see `connector plan`.")


# Help lists commands as they are added: first the instance itself, then what it is good for.
app.add_typer(connector_map.app, name="map")
app.add_typer(connector_formula.app, name="formula")
app.command(epilog=connector_docs.EXAMPLES)(connector_docs.docs)
app.command(epilog=connector_request.EXAMPLES)(connector_request.request)


def _warn_of(formulas: Any, then: str) -> list[str] | None:
    """Name the formulas that use the instance, before anything is asked; None: it is not known."""
    if formulas.names is None:
        told = "Whether formulas of Open Connectors use the instance could not be found out"
        say_error(f"{told}: {formulas.reason}")
        return None
    if formulas.names:
        say_error(f"Formulas use instance {formulas.instance}; {then}:")
        say_error(*(f"  {name}" for name in formulas.names))
    return list(formulas.names)


def _run(act: Callable[[AnyProvisioner], Awaitable[Result]]) -> Result:
    from service.operate.instance import open_provisioner

    async def opened(deployment: Deployment) -> Result:
        async with open_provisioner(deployment) as provisioner:
            return await act(provisioner)

    return run_on_deployment(opened)


def _act(what: str, act: Callable[[AnyProvisioner, Noted], Awaitable[Result]]) -> Result:
    """Run what changes something; it says itself when that begins."""
    from service.operate.instance import open_provisioner

    async def opened(deployment: Deployment) -> Result:
        async with open_provisioner(deployment) as provisioner:
            return await act(provisioner, partial(acting, deployment, f"connector {what}"))

    return run_on_deployment(opened)


def _change(what: str, change: Callable[[AnyProvisioner], Awaitable[str | None]]) -> str | None:
    """Run one change of the instance; return the instance's id, where the change tells it."""

    async def act(provisioner: AnyProvisioner, noted: Noted) -> str | None:
        async with noted() as noting:
            id_ = await change(provisioner)
            noting.about = f"instance {id_}" if id_ else ""
        return id_

    return _act(what, act)
