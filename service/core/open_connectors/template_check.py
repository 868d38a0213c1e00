"""Compares `config/message.json` with an instance's own API description. Pure.

Source: OpenAPI 2.0 ("Swagger") and 3.0, as `GET /instances/{id}/docs` answers: the body that
`POST /messages` describes. References are followed, parts joined by `allOf`, and of alternatives
(`oneOf`, `anyOf`) the nearest counts. A thing may be described in two spellings, "to" and "To":
either will do, whichever of them is said to be required.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.core.open_connectors.api_schema import (
    SchemaBody,
    as_object,
    bodies_of,
    body_schemas,
    kind_of,
)
from service.core.open_connectors.field_names import nearest_name, same_name

MESSAGES = "messages"
"""Last part of the path that replies are POSTed to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    kind: "casing" or "unknown", a field of ours that the description has otherwise written or not
        at all; "missing", one that it requires and we lack; "type", a list that it has as a text,
        or the other way round. field: its name. instead: the name it describes, "" for none.
    """

    kind: Literal["casing", "unknown", "missing", "type"]
    field: str
    instead: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "casing":
                return f'"{self.field}" is written "{self.instead}"'
            case "unknown" if self.instead:
                return f'"{self.field}" is not described; is "{self.instead}" meant?'
            case "unknown":
                return f'"{self.field}" is not described, and nothing like it: remove it'
            case "missing":
                return f'"{self.field}" is required and missing: add it'
            case "type":
                return f'"{self.field}" is described as {self.instead}'


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found. described: every field of the description, required ones first."""

    findings: tuple[Finding, ...]
    described: tuple[str, ...]


def compare(template: Mapping[str, Any], docs: Any) -> Comparison | None:
    """Compare a template's fields with what an API description says of POST /messages.

    template: the JSON object with its placeholders. docs: the description, read from JSON.
    Returns None when it describes no fields for such a POST.
    """
    compared = [_compare_with(template, *body) for body in _described(docs)]
    return min(compared, key=lambda each: len(each.findings), default=None)


def _compare_with(
    template: Mapping[str, Any], properties: Mapping[str, Any], required: Sequence[str]
) -> Comparison:
    unknown = [name for name in template if name not in properties]
    free = [name for name in properties if name not in template]
    findings = []
    for name in unknown:
        instead = nearest_name(name, free)
        if instead:
            free.remove(instead)
        casing = instead.lower() == name.lower()
        findings.append(Finding("casing" if casing else "unknown", name, instead))
    given = [name for name in template if name in properties]
    findings += [
        Finding("missing", name)
        for name in required
        if name in free and not any(same_name(name, each) for each in given)
    ]
    findings += [
        Finding("type", name, kind_of(properties[name]))
        for name in given
        if _is_list(template[name]) != (kind_of(properties[name]) == "array")
        if kind_of(properties[name])
    ]
    described = sorted(properties, key=lambda name: name not in required)
    return Comparison(tuple(findings), tuple(described))


def _described(docs: Any) -> list[SchemaBody]:
    """Return the bodies a POST /messages may have; none where no fields are described."""
    paths = as_object(as_object(docs).get("paths"))
    ours = [path for path in paths if path.rstrip("/").rpartition("/")[2].lower() == MESSAGES]
    for path in sorted(ours, key=len):
        operation = as_object(as_object(paths[path]).get("post"))
        for schema in body_schemas(docs, operation):
            bodies = [
                (properties, [name for name in dict.fromkeys(required) if name in properties])
                for properties, required in bodies_of(docs, schema)
                if properties
            ]
            if bodies:
                return bodies
    return []


def _is_list(value: Any) -> bool:
    """Tell whether a template's value will be a list: written as one, or filled with the media."""
    return isinstance(value, list) or value == "${media}"
