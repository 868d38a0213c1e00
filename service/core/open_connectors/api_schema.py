"""Reads the parts of an API description: references, what a schema amounts to, bodies. Pure.

Source: OpenAPI 2.0 ("Swagger") and 3.0. What is malformed counts as absent: a description comes
from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

DEEPEST = 20
"""References followed one after the other; a description that refers to itself ends here."""

JOINED = 6
ALTERNATIVES = 32
"""Levels of parts within parts, and whole bodies that they may amount to."""

SchemaBody = tuple[dict[str, Any], list[str]]
"""Fields with their schemas, and the names of those required."""


def resolve(docs: Any, part: Any) -> Mapping[str, Any]:
    """Follow references within the document; an empty object where one leads nowhere."""
    for _ in range(DEEPEST):
        found = as_object(part)
        reference = found.get("$ref")
        if not isinstance(reference, str):
            return found
        part = docs
        for step in reference.removeprefix("#/").split("/"):
            part = as_object(part).get(step.replace("~1", "/").replace("~0", "~"))
    return {}


def bodies_of(docs: Any, schema: Any, depth: int = JOINED) -> list[SchemaBody]:
    """Return what a schema amounts to: one body, or several where it has alternatives."""
    found = resolve(docs, schema)
    names = found.get("required")
    required = [str(name) for name in names] if isinstance(names, list) else []
    bodies: list[SchemaBody] = [(dict(as_object(found.get("properties"))), required)]
    if not depth:
        return bodies
    joined = found.get("allOf")
    several = [[part] for part in joined] if isinstance(joined, list) else []
    several += [found[word] for word in ("oneOf", "anyOf") if isinstance(found.get(word), list)]
    for parts in several:
        choice = [body for part in parts for body in bodies_of(docs, part, depth - 1)]
        bodies = [
            ({**one, **other}, [*needed, *also])
            for one, needed in bodies
            for other, also in choice or [({}, [])]
        ][:ALTERNATIVES]
    return bodies


def body_schemas(docs: Any, operation: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas of what an operation is sent."""
    for parameter in as_list(operation.get("parameters")):
        resolved = resolve(docs, parameter)
        if resolved.get("in") == "body":
            yield resolved.get("schema")
    yield from content_schemas(resolve(docs, operation.get("requestBody")))


def answer_schemas(answer: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas of one answer of an operation."""
    if "schema" in answer:
        yield answer["schema"]
    yield from content_schemas(answer)


def content_schemas(part: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas that OpenAPI 3.0 gives by media type."""
    for media in as_object(part.get("content")).values():
        yield as_object(media).get("schema")


def kind_of(schema: Any) -> str:
    """Return a schema's type, "" where it tells none."""
    kind = as_object(schema).get("type")
    return kind if isinstance(kind, str) else ""


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, an empty one for anything else."""
    return value if isinstance(value, list) else []
