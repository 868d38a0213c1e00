"""`parley connector docs`: the instance's own API description, to read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.printing import TableRow, print_table, say, say_json
from service.cli.running import run_on_deployment
from service.cli.words import AsJson, examples, refuse_empty
from service.errors import UsageError

if TYPE_CHECKING:
    from service.core.open_connectors.api_reference import ApiModel, ApiOperation, ApiReference

EXAMPLES = examples(
    "parley connector docs",
    "parley connector docs createMessage",
    'parley connector docs "GET /messages"',
    "parley connector docs --search media",
)

REQUIRED = "required"


def docs(
    operation: Annotated[
        str | None,
        typer.Argument(
            metavar="[OPERATION]",
            help='One operation: its name, its path, or such as "GET /messages".',
        ),
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="Only operations that say this word anywhere.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what can be asked of the instance.

    That is as the instance describes its own API. With an operation: its parameters, the fields of
    what is sent and answered, and an example. `parley connector request` asks it. Sends and
    changes nothing.
    """
    from service.operate.api_docs import read_api

    refuse_empty(search=search)
    if operation is not None and search is not None:
        raise UsageError("say an operation or --search WORD, not both")
    reference = run_on_deployment(read_api)
    if operation is not None:
        found = _chosen(reference, operation)
        if as_json:
            say_json({"operations": [_as_json(each) for each in found]})
            return
        for place, each in enumerate(found):
            if place:
                say("")
            _show(each)
        return
    listed = reference.operations if search is None else reference.search(search)
    if as_json:
        short = ("id", "method", "path", "resource", "summary")
        rows = [{name: getattr(each, name) for name in short} for each in listed]
        say_json({"title": reference.title, "version": reference.version, "operations": rows})
        return
    if not listed:
        say(f"No operation says {search}; `parley connector docs` lists all.")
        return
    _show_list(reference, listed)


def _chosen(reference: ApiReference, wanted: str) -> tuple[ApiOperation, ...]:
    found = reference.find(wanted)
    if not found:
        near = reference.near(wanted)
        meant = f"is {' or '.join(near)} meant?" if near else "`parley connector docs` lists all"
        raise UsageError(f"OPERATION {wanted}: the instance describes none like it; {meant}")
    return found


def _show_list(reference: ApiReference, listed: tuple[ApiOperation, ...]) -> None:
    say(f"{reference.title or 'The instance'}, as it describes its own API:")
    rows: list[TableRow] = []
    for resource in dict.fromkeys(each.resource for each in listed):
        rows.append(((resource, "", ""), "bold"))
        rows += [
            ((f"  {each.id}", f"{each.method} {each.path}", each.summary), None)
            for each in listed
            if each.resource == resource
        ]
    print_table(("operation", "request", "what it does"), rows)
    say(f"{len(listed)} in all. Next: parley connector docs OPERATION")


def _show(operation: ApiOperation) -> None:
    say(f"{operation.method} {operation.path} ({operation.id})")
    say(*(each for each in (operation.summary, operation.description) if each))
    if operation.parameters:
        say("", "Parameters")
        rows = [
            ((each.name, each.place, each.kind, _needed(each.required), each.description), None)
            for each in operation.parameters
        ]
        print_table(("name", "in", "type", "", "what it is"), rows)
    if operation.body is not None:
        say("", f"What is sent: {_called(operation.body)}")
        _show_fields(operation.body)
    for answer in operation.answers:
        if answer.model is not None:
            say("", f"Answer {answer.status}: {_called(answer.model)}")
            _show_fields(answer.model)
    others = [each for each in operation.answers if each.model is None]
    if others:
        say("", "Other answers")
        say(*(f"  {each.status} {each.description}" for each in others))
    say("", "Example", f"  {operation.example}")
    for answer in operation.answers:
        if answer.model is not None:
            say(f"  answered {answer.status}, for instance, with:")
            lines = json.dumps(answer.model.sample, indent=2, ensure_ascii=False).splitlines()
            say(*(f"  {line}" for line in lines))


def _show_fields(model: ApiModel) -> None:
    if not model.fields:
        say("  Its fields are not described.")
        return
    rows = [
        ((f"  {each.path}", each.kind, _needed(each.required), each.description), None)
        for each in model.fields
    ]
    print_table(("  field", "type", "", "what it is"), rows)


def _called(model: ApiModel) -> str:
    name = model.name or "an object"
    return f"a list of {name}" if model.is_list else name


def _needed(required: bool) -> str:
    return REQUIRED if required else ""


def _as_json(operation: ApiOperation) -> dict[str, Any]:
    return {**asdict(operation), "example": operation.example}
