"""Reads an instance's API description as a reference: operations, their parameters, models. Pure.

Source: OpenAPI 2.0 ("Swagger") and 3.0, as `GET /instances/{id}/docs` answers. It comes from
outside: what is malformed is left out, and what refers to itself ends after a few levels.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from service.core.open_connectors.api_schema import (
    answer_schemas,
    as_list,
    as_object,
    bodies_of,
    body_schemas,
    kind_of,
    resolve,
)
from service.core.open_connectors.field_names import same_name

METHODS = ("get", "head", "post", "put", "patch", "delete")

NESTED = 4
FIELDS = 300
"""Levels of objects within objects that are told of a model, and fields of all of them."""

PLAIN_SAMPLES: Mapping[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}
"""Stands in an example where the description has no value of its own."""


@dataclass(frozen=True, slots=True)
class ApiField:
    """A field of a model. path: with dots, `[]` behind a list. required: in each of its forms."""

    path: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class ApiModel:
    """What is sent or answered. name: "" without one. sample: a value of it, as JSON."""

    name: str
    is_list: bool
    fields: tuple[ApiField, ...]
    sample: Any


@dataclass(frozen=True, slots=True)
class ApiParameter:
    """A parameter. place: "path", "query", "header" or "formData"."""

    name: str
    place: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer. status: as described, such as "200" or "default"."""

    status: str
    description: str
    model: ApiModel | None


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """What can be asked. path: below the instance's own base. resource: what it belongs to."""

    id: str
    method: str
    path: str
    resource: str
    summary: str
    description: str
    parameters: tuple[ApiParameter, ...]
    body: ApiModel | None
    answers: tuple[ApiAnswer, ...]

    @property
    def example(self) -> str:
        """The command that asks it, with sample values."""
        words = ["parley", "connector", "request", self.method]
        words.append(re.sub(r"\{([^{}]*)\}", lambda found: found[1].upper(), self.path))
        for each in self.parameters:
            if each.place == "query" and (each.required or each.name == "pageSize"):
                value = "5" if each.name == "pageSize" else each.name.upper()
                words += ["--query", f"{each.name}={value}"]
        if self.body is not None:
            words += ["--data", json.dumps(_each_once(self.body.sample))]
        return shlex.join(words)

    @property
    def sample_body(self) -> str:
        """What is sent, for instance, as JSON to read; "" for nothing."""
        if self.body is None:
            return ""
        return json.dumps(_each_once(self.body.sample), indent=2, ensure_ascii=False)

    @property
    def words(self) -> str:
        """Whatever it can be searched by, in lower case."""
        models = [self.body, *(answer.model for answer in self.answers)]
        found = [self.id, self.method, self.path, self.resource, self.summary, self.description]
        found += [f"{each.name} {each.description}" for each in self.parameters]
        for model in models:
            if model is not None:
                found += [model.name, *(f"{each.path} {each.description}" for each in model.fields)]
        return "\n".join(found).lower()


@dataclass(frozen=True, slots=True)
class ApiReference:
    """An instance's API. operations: by resource, path and method."""

    title: str
    version: str
    operations: tuple[ApiOperation, ...]

    def search(self, word: str) -> tuple[ApiOperation, ...]:
        """Find the operations that say a word anywhere, in any case."""
        return tuple(each for each in self.operations if word.lower() in each.words)

    def find(self, wanted: str) -> tuple[ApiOperation, ...]:
        """Find what somebody means: an operation's name, its path, or its method and path."""
        low = " ".join(wanted.lower().split())
        return tuple(
            each
            for each in self.operations
            if low in {each.id.lower(), each.path.lower(), f"{each.method} {each.path}".lower()}
        )

    def near(self, wanted: str) -> list[str]:
        """Name the operations that somebody may have meant."""
        ids = {each.id.lower(): each.id for each in self.operations}
        return [ids[low] for low in difflib.get_close_matches(wanted.lower(), ids, 3, 0.5)]


def read_reference(docs: Any) -> ApiReference | None:
    """Read an API description, from JSON; None when it describes no operation."""
    operations = sorted(
        _operations(docs),
        key=lambda each: (each.resource, each.path, METHODS.index(each.method.lower())),
    )
    if not operations:
        return None
    info = as_object(as_object(docs).get("info"))
    return ApiReference(_line(info.get("title")), _line(info.get("version")), tuple(operations))


def _operations(docs: Any) -> Iterator[ApiOperation]:
    for path, item in as_object(as_object(docs).get("paths")).items():
        shared = as_list(as_object(item).get("parameters"))
        for method in METHODS:
            if isinstance(found := as_object(item).get(method), dict):
                yield _operation(docs, path, method.upper(), found, shared)


def _operation(
    docs: Any, path: str, method: str, found: Mapping[str, Any], shared: list[Any]
) -> ApiOperation:
    tags = [_line(tag) for tag in as_list(found.get("tags"))]
    first = next(filter(None, path.removeprefix("/hubs/messaging").split("/")), path)
    body = next(iter(body_schemas(docs, found)), None)
    described = found.get("responses")
    return ApiOperation(
        id=_line(found.get("operationId")) or f"{method} {path}",
        method=method,
        path=path,
        resource=next(filter(None, tags), first),
        summary=_line(found.get("summary")),
        description=_line(found.get("description")),
        parameters=tuple(_parameters(docs, [*shared, *as_list(found.get("parameters"))])),
        body=None if body is None else _model(docs, body),
        answers=tuple(_answers(docs, as_object(described))),
    )


def _parameters(docs: Any, described: list[Any]) -> Iterator[ApiParameter]:
    found = [resolve(docs, each) for each in described]
    # The last of a name and place counts: an operation's own goes before that of its path.
    for each in {(each.get("in"), str(each.get("name"))): each for each in found}.values():
        name, place = _line(each.get("name")), _line(each.get("in"))
        # The body is a model, and who asks is for whoever asks to say.
        if name and place != "body" and name.lower() != "authorization":
            yield ApiParameter(
                name=name,
                place=place,
                kind=_kind(docs, each.get("schema", each)),
                required=each.get("required") is True,
                description=_line(each.get("description")),
            )


def _answers(docs: Any, described: Mapping[str, Any]) -> Iterator[ApiAnswer]:
    for status, each in sorted(described.items()):
        found = resolve(docs, each)
        schema = next(answer_schemas(found), None)
        model = None if schema is None else _model(docs, schema)
        yield ApiAnswer(_line(status), _line(found.get("description")), model)


def _model(docs: Any, schema: Any) -> ApiModel:
    found = resolve(docs, schema)
    is_list = kind_of(found) == "array"
    inner = found.get("items") if is_list else schema
    fields = tuple(islice(_fields(docs, inner, "", NESTED), FIELDS))
    return ApiModel(
        _name(inner), is_list, fields, _sample(docs, schema, NESTED, iter(range(FIELDS)))
    )


def _each_once(sample: Any) -> Any:
    """Leave out of what is sent what says the same as another field, such as "to" beside "To"."""
    if not isinstance(sample, dict):
        return sample
    kept: dict[str, Any] = {}
    for name, value in sample.items():
        if not any(same_name(name, each) for each in kept):
            kept[name] = value
    return kept


def _name(schema: Any) -> str:
    reference = as_object(schema).get("$ref")
    if isinstance(reference, str):
        return _line(reference.rpartition("/")[2])
    return _line(as_object(schema).get("title"))


def _fields(docs: Any, schema: Any, before: str, levels: int) -> Iterator[ApiField]:
    forms = bodies_of(docs, schema)
    # Of alternatives each field is told once; required is what no form does without.
    merged = {name: each for properties, _ in reversed(forms) for name, each in properties.items()}
    for name, each in merged.items():
        found = resolve(docs, each)
        is_list = kind_of(found) == "array"
        path = f"{before}{_line(name)}"
        required = all(name in needed for _, needed in forms)
        yield ApiField(path, _kind(docs, each), required, _described(found))
        if levels > 1:
            inner = found.get("items") if is_list else each
            yield from _fields(docs, inner, f"{path}[]." if is_list else f"{path}.", levels - 1)


def _described(found: Mapping[str, Any]) -> str:
    text, choice = _line(found.get("description")), as_list(found.get("enum"))
    values = f"one of {', '.join(map(_line, choice))}" if choice else ""
    return "; ".join(filter(None, (text, values)))


def _kind(docs: Any, schema: Any) -> str:
    found = resolve(docs, schema)
    kind = kind_of(found)
    if kind == "array":
        return f"list of {_kind_of_item(docs, found.get('items'))}"
    form = _line(found.get("format"))
    return (f"{kind} ({form})" if form else kind) or ("object" if found.get("properties") else "")


def _kind_of_item(docs: Any, items: Any) -> str:
    found = resolve(docs, items)
    return _name(items) or kind_of(found) or "any"


def _sample(docs: Any, schema: Any, levels: int, left: Iterator[int]) -> Any:
    """Make up a value. left: as many fields as may be in all of it."""
    found = resolve(docs, schema)
    for name in ("example", "x-samplevalue", "default"):
        if found.get(name) is not None:
            return found[name]
    if choice := as_list(found.get("enum")):
        return choice[0]
    kind = kind_of(found)
    if not levels:
        return PLAIN_SAMPLES.get(kind, "text")
    if kind == "array":
        return [_sample(docs, found.get("items"), levels - 1, left)]
    properties, required = bodies_of(docs, schema)[0]
    if not properties:
        return PLAIN_SAMPLES.get(kind, "text")
    wanted = [name for name in properties if name in required] or list(properties)
    return {
        name: _sample(docs, properties[name], levels - 1, left)
        for name in wanted
        if next(left, None) is not None
    }


def _line(value: Any) -> str:
    """Return a text in one line, "" for what is none."""
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
