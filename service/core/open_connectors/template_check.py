"""Compares `config/message.json` with an instance's own API description. Pure.

Source: OpenAPI 2.0 ("Swagger") and 3.0, as `GET /instances/{id}/docs` answers: the body that
`POST /messages` describes. References are followed, parts joined by `allOf`, and of alternatives
(`oneOf`, `anyOf`) the nearest counts. A thing may be described in two spellings, "to" and "To":
either will do, whichever of them is said to be required.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MESSAGES = "messages"
"""Last part of the path that replies are POSTed to."""

DEEPEST = 20
"""References followed one after the other; a description that refers to itself ends here."""

JOINED = 6
ALTERNATIVES = 32
"""Levels of parts within parts, and whole bodies that they may amount to."""

SAME_THING: Sequence[frozenset[str]] = (
    frozenset({"to", "recipient", "tonumber"}),
    frozenset({"from", "sender", "fromnumber"}),
    frozenset({"body", "message", "text", "content"}),
    frozenset({"mediaurl", "media", "mediaurls"}),
)
"""Names, in lower case, that the hub model and Twilio give to the same thing."""


_Body = tuple[dict[str, Any], list[str]]
"""Fields with their schemas, and the names of those required."""


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
        instead = _nearest(name, free)
        if instead:
            free.remove(instead)
        casing = instead.lower() == name.lower()
        findings.append(Finding("casing" if casing else "unknown", name, instead))
    given = [name for name in template if name in properties]
    findings += [
        Finding("missing", name)
        for name in required
        if name in free and not any(_same(name, each) for each in given)
    ]
    findings += [
        Finding("type", name, _kind(properties[name]))
        for name in given
        if _is_list(template[name]) != (_kind(properties[name]) == "array")
        if _kind(properties[name])
    ]
    described = sorted(properties, key=lambda name: name not in required)
    return Comparison(tuple(findings), tuple(described))


def _described(docs: Any) -> list[_Body]:
    """Return the bodies a POST /messages may have; none where no fields are described."""
    paths = _object(_object(docs).get("paths"))
    ours = [path for path in paths if path.rstrip("/").rpartition("/")[2].lower() == MESSAGES]
    for path in sorted(ours, key=len):
        operation = _object(_object(paths[path]).get("post"))
        for schema in _body_schemas(docs, operation):
            bodies = [
                (properties, [name for name in dict.fromkeys(required) if name in properties])
                for properties, required in _bodies(docs, schema, JOINED)
                if properties
            ]
            if bodies:
                return bodies
    return []


def _body_schemas(docs: Any, operation: Mapping[str, Any]) -> Iterator[Any]:
    parameters = operation.get("parameters")
    for parameter in parameters if isinstance(parameters, list) else ():
        resolved = _resolve(docs, parameter)
        if resolved.get("in") == "body":
            yield resolved.get("schema")
    content = _object(_resolve(docs, operation.get("requestBody")).get("content"))
    for media in content.values():
        yield _object(media).get("schema")


def _bodies(docs: Any, schema: Any, depth: int) -> list[_Body]:
    """Return what a schema amounts to: one body, or several where it has alternatives."""
    found = _resolve(docs, schema)
    names = found.get("required")
    required = [str(name) for name in names] if isinstance(names, list) else []
    bodies: list[_Body] = [(dict(_object(found.get("properties"))), required)]
    if not depth:
        return bodies
    joined = found.get("allOf")
    several = [[part] for part in joined] if isinstance(joined, list) else []
    several += [found[word] for word in ("oneOf", "anyOf") if isinstance(found.get(word), list)]
    for parts in several:
        choice = [body for part in parts for body in _bodies(docs, part, depth - 1)]
        bodies = [
            ({**one, **other}, [*needed, *also])
            for one, needed in bodies
            for other, also in choice or [({}, [])]
        ][:ALTERNATIVES]
    return bodies


def _resolve(docs: Any, part: Any) -> Mapping[str, Any]:
    """Follow references within the document; an empty object where one leads nowhere."""
    for _ in range(DEEPEST):
        found = _object(part)
        reference = found.get("$ref")
        if not isinstance(reference, str):
            return found
        part = docs
        for step in reference.removeprefix("#/").split("/"):
            part = _object(part).get(step.replace("~1", "/").replace("~0", "~"))
    return {}


def _same(one: str, other: str) -> bool:
    """Tell whether two names stand for the same thing."""
    low, also = one.lower(), other.lower()
    return low == also or any({low, also} <= group for group in SAME_THING)


def _nearest(name: str, free: Sequence[str]) -> str:
    """Find the described name that ours stands for: but for its case, its meaning, its letters."""
    lowered = {each.lower(): each for each in reversed(free)}
    if name.lower() in lowered:
        return lowered[name.lower()]
    meanings = [group for group in SAME_THING if name.lower() in group]
    same = [each for low, each in lowered.items() if any(low in group for group in meanings)]
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.75)
    return same[0] if same else lowered[near[0]] if near else ""


def _kind(schema: Any) -> str:
    kind = _object(schema).get("type")
    return kind if isinstance(kind, str) else ""


def _is_list(value: Any) -> bool:
    """Tell whether a template's value will be a list: written as one, or filled with the media."""
    return isinstance(value, list) or value == "${media}"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
