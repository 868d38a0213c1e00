"""`parley connector formula`: formulas of Open Connectors on our instance."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.asking import Yes, ask, tell
from service.cli.printing import print_table, say, say_json
from service.cli.running import acting, run_on_deployment
from service.cli.words import AsJson, examples, refuse_empty

if TYPE_CHECKING:
    from service.core.open_connectors.formula_templates import FormulaAtWork
    from service.operate.deployment import Deployment

app = typer.Typer(
    help="Formulas of Open Connectors that use the instance.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(name="list", epilog=examples("parley connector formula list"))
def list_(as_json: AsJson = False) -> None:
    """List the templates, and the formulas that use the instance.

    Templates come with the variables that `create` fills.
    """
    from service.operate.formulas import list_formulas

    found = run_on_deployment(list_formulas)
    if as_json:
        say_json(asdict(found))
        return
    if not found.templates:
        say("Open Connectors has no formula templates.")
    else:
        say("Templates")
        rows = [
            (
                each.id,
                each.name,
                ", ".join(f"{variable.key} ({variable.kind})" for variable in each.variables),
            )
            for each in found.templates
        ]
        print_table(("id", "name", "variables"), [(cells, None) for cells in rows])
        say("Next: parley connector formula create TEMPLATE", "")
    if not found.at_work:
        say(f"No formula uses instance {found.instance}.")
        return
    say(f"At work on instance {found.instance}")
    at_work = [
        (each.id, each.name, each.template, each.reason or ("on" if each.active else "off"))
        for each in found.at_work
    ]
    print_table(("id", "name", "template", "state"), [(cells, None) for cells in at_work])
    say("Next: parley connector formula remove ID")


@app.command(
    epilog=examples(
        'parley connector formula create "Texts to CRM" --set crm=1234',
        "parley connector formula create 301 --name nightly",
    )
)
def create(
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="A template's id or name.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of one of its variables; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a formula to work, with the instance filled in.

    Whichever of its variables takes an instance, and is not named by --set, gets ours.
    """
    from service.core.open_connectors.formula_templates import read_values
    from service.operate import formulas

    refuse_empty(name=name)
    values = read_values(set_ or ())

    async def act(deployment: Deployment) -> FormulaAtWork:
        async with acting(deployment, "connector formula create", f"template {template}") as noting:
            created = await formulas.create(deployment, template, values, name)
            noting.about = f"formula {created.id} of template {template}"
        return created

    made = run_on_deployment(act)
    tell(as_json, asdict(made), f"Formula {made.id} ({made.name}) is at work on the instance.")


@app.command(epilog=examples("parley connector formula remove 302 --yes"))
def remove(
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="As `parley connector formula list` has it.")
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a formula that uses the instance; its template stays."""
    from service.operate import formulas

    found = run_on_deployment(lambda deployment: formulas.find(deployment, id_))
    ask(f"Delete formula {found.id} ({found.name}, of {found.template})?", yes=yes)

    async def act(deployment: Deployment) -> None:
        async with acting(deployment, "connector formula remove", f"formula {found.id}"):
            await formulas.remove(deployment, found)

    run_on_deployment(act)
    tell(as_json, {"removed": found.id}, f"Formula {found.id} is deleted.")
