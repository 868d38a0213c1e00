"""`parley connector map`: common resources, and what is mapped on our instance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.asking import Yes, ask, tell
from service.cli.printing import TableRow, print_table, say, say_error, say_json
from service.cli.running import acting, run_on_deployment
from service.cli.words import AsJson, examples, refuse_empty

if TYPE_CHECKING:
    from service.core.open_connectors.common_resources import ResourceMapping
    from service.operate.deployment import Deployment
    from service.operate.mapping_drafts import MappingDraft

app = typer.Typer(
    help="Common resources: the instance's rows under names of your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The resource, as `parley connector map list` has it.")
]

OURS, FOR_ALL = "our instance", "every instance"


@app.command(name="list", epilog=examples("parley connector map list"))
def list_(as_json: AsJson = False) -> None:
    """List the common resources, and what is mapped on the instance."""
    from service.operate.common_resources import list_resources

    found = run_on_deployment(list_resources)
    if as_json:
        resources = [{"name": each.name, "fields": dict(each.fields)} for each in found.resources]
        mapped = [_mapping_json(each, OURS) for each in found.own]
        mapped += [_mapping_json(each, FOR_ALL) for each in found.for_all]
        say_json({"instance": found.instance, "resources": resources, "mapped": mapped})
        return
    fields = {each.name: ", ".join(each.fields) for each in found.resources}
    rows: list[TableRow] = []
    for of, mappings in ((OURS, found.own), (FOR_ALL, found.for_all)):
        for each in mappings:
            pairs = ", ".join(f"{ours}={theirs}" for ours, theirs in each.pairs.items())
            rows.append(((each.name, of, each.vendor, pairs), None))
    mapped_names = {cells[0] for cells, _ in rows}
    rows += [((name, "", "", fields[name]), None) for name in fields if name not in mapped_names]
    if not rows:
        say("The organization has no common resources, and nothing is mapped on the instance.")
        say("Make one: parley connector map set NAME --new --field ours=theirs")
        return
    print_table(("resource", "mapped for", "rows of", "fields"), rows)
    say("Next: parley connector map show NAME, set NAME, remove NAME")


@app.command(epilog=examples("parley connector map show texts"))
def show(name: Name, as_json: AsJson = False) -> None:
    """Show one resource: its fields, what fills them, its first row."""
    from service.operate.common_resources import show as find

    found = run_on_deployment(lambda deployment: find(deployment, name))
    mapping, row = found.mapping, found.row
    of = FOR_ALL if found.for_all else OURS
    if as_json:
        say_json(
            {
                "name": name,
                "fields": dict(found.resource.fields),
                "mapped": None if mapping is None else _mapping_json(mapping, of),
                "row": None if row is None else dict(row),
            }
        )
        return
    say(f"{name}: " + (f"rows of {mapping.vendor}, for {of}" if mapping else "not mapped"))
    pairs = mapping.pairs if mapping else {}
    rows: list[TableRow] = [
        ((field, kind, pairs.get(field, ""), _short(row, field)), None)
        for field, kind in found.resource.fields.items()
    ]
    print_table(("field", "type", "filled with", "first row"), rows)
    if found.row is None:
        say(f"No row is shown: {found.why_no_row}.")
    if mapping is not None:
        say(f"Read it: parley connector request GET /{name}")


@app.command(
    name="set",
    epilog=examples(
        "parley connector map set texts --new --field id=sid --field text=body",
        "parley connector map set texts",
        "parley connector map set texts --field text= --exact --yes",
    ),
)
def set_(
    name: Name,
    field: Annotated[
        list[str] | None,
        typer.Option(help="ours=theirs: what fills a field; ours= leaves it empty. Repeatable."),
    ] = None,
    vendor: Annotated[
        str | None, typer.Option(help="The vendor's resource whose rows are mapped; messages.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Make the resource, with these fields.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Propose nothing for fields that are not named.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Map a common resource on the instance.

    Shows a row as it is mapped, and asks. Fields that are mapped already stay so, and others are
    matched by their names. From then on `parley connector request GET /NAME` answers rows with
    these fields.
    """
    from service.core.open_connectors.common_resources import read_pairs
    from service.operate import mapping_drafts

    refuse_empty(vendor=vendor)
    said = read_pairs(field or ())

    async def act(deployment: Deployment) -> MappingDraft:
        drafted = await mapping_drafts.draft(
            deployment, name, said, vendor=vendor, new=new, propose=not exact
        )
        _show_draft(drafted, as_json=as_json)
        ask(_question(drafted), yes=yes)
        async with acting(deployment, "connector map set", name):
            await mapping_drafts.save(deployment, drafted)
        return drafted

    saved = run_on_deployment(act)
    facts = _mapping_json(saved.mapping, OURS)
    facts |= {"made": saved.makes is not None, "replaced": saved.replaces}
    sample = None if saved.mapped is None else dict(saved.mapped)
    facts |= {"sample": sample, "warning": saved.warning}
    done = f"{name} is mapped on instance {saved.instance}: parley connector request GET /{name}"
    tell(as_json, facts, done)


@app.command(epilog=examples("parley connector map remove texts --yes"))
def remove(
    name: Name,
    definition: Annotated[
        bool,
        typer.Option("--definition", help="Delete the organization's resource as well."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is mapped on the instance under a name."""
    from service.operate import common_resources

    more = " and delete the organization's resource, which others may use" if definition else ""
    ask(f"Remove the mapping of {name}{more}?", yes=yes)

    async def act(deployment: Deployment) -> None:
        about = f"{name}, and its definition" if definition else name
        async with acting(deployment, "connector map remove", about):
            await common_resources.remove(deployment, name, definition=definition)

    run_on_deployment(act)
    facts = {"removed": name, "definition": definition}
    tell(as_json, facts, f"{name} is not mapped on the instance any more.")


def _show_draft(drafted: MappingDraft, *, as_json: bool) -> None:
    """Show what would be saved; warnings go to standard error, JSON or not."""
    if drafted.warning:
        say_error(f"{drafted.warning}.")
    for theirs, near in drafted.unknown.items():
        meant = f"; is {near} meant?" if near else ""
        say_error(f"{drafted.mapping.vendor} has no field {theirs}, as far as is known{meant}")
    if as_json:
        return
    if drafted.makes is not None:
        say(f"Makes the organization's common resource {drafted.makes.name}.")
    say(f"{drafted.mapping.name} from rows of {drafted.mapping.vendor}:")
    rows: list[TableRow] = [
        (
            (
                each.ours,
                each.theirs,
                "proposed" if each.proposed else "",
                _short(drafted.mapped, each.ours),
            ),
            None,
        )
        for each in drafted.pairings
    ]
    rows += [((each, "", "stays empty", ""), None) for each in drafted.unmapped]
    print_table(("field", "filled with", "", "a row as mapped"), rows)
    if drafted.mapped is None:
        say(f"No row is shown: {drafted.why_no_row}.")


def _question(drafted: MappingDraft) -> str:
    instead = ", in the place of what is mapped now" if drafted.replaces else ""
    return f"Map {drafted.mapping.name} on instance {drafted.instance}{instead}?"


def _mapping_json(mapping: ResourceMapping, of: str) -> dict[str, Any]:
    level = "instance" if of == OURS else "connector"
    return {
        "name": mapping.name,
        "vendor": mapping.vendor,
        "fields": dict(mapping.pairs),
        "level": level,
    }


def _short(row: Any, field: str) -> str:
    """Show a value of a row; "" where there is none."""
    value = row
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if row is not None and field in row:
        value = row[field]
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
