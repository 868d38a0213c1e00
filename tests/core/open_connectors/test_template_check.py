"""config/message.json against an instance's own API description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.open_connectors.template_check import compare

SHIPPED: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "config" / "message.json").read_text(encoding="utf-8")
)
OLDER = {"to": "${to}", "from": "${from}", "message": "${body}"}


def swagger(properties: dict[str, str], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe POST /messages as Swagger 2.0 does."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(required),
    }
    body = {"in": "body", "name": "body", "schema": {"$ref": "#/definitions/postMessage"}}
    return {
        "swagger": "2.0",
        "paths": {"/messages": {"post": {"parameters": [body]}}, "/messages/{id}": {"get": {}}},
        "definitions": {"postMessage": schema},
    }


def openapi(properties: dict[str, str], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe the same as OpenAPI 3.0 does, in two parts joined."""
    parts = [
        {"properties": {name: {"type": kind} for name, kind in properties.items()}},
        {"required": list(required)},
    ]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/a~1b"}}}
    return {
        "openapi": "3.0.0",
        "paths": {"/hubs/messaging/messages": {"post": {"requestBody": {"content": content}}}},
        "components": {"schemas": {"a/b": {"allOf": parts}}},
    }


V2 = {"To": "string", "From": "string", "Body": "string", "MediaUrl": "array"}
HUB = {"to": "string", "from": "string", "subject": "string", "message": "string"}


@pytest.mark.parametrize("describe", [swagger, openapi])
@pytest.mark.parametrize(
    ("template", "properties", "required", "said"),
    [
        pytest.param(SHIPPED, V2, ("To", "From"), [], id="ours fits"),
        pytest.param(OLDER, HUB, ("to", "from", "message"), [], id="the older model's fits"),
        pytest.param(
            SHIPPED,
            HUB,
            ("to", "from", "message"),
            [
                '"To" is written "to"',
                '"From" is written "from"',
                '"Body" is not described; is "message" meant?',
                '"MediaUrl" is not described, and nothing like it: remove it',
            ],
            id="ours for the older model",
        ),
        pytest.param(
            {"To": "${to}", "Bodi": "${body}"},
            V2,
            ("To", "From"),
            [
                '"Bodi" is not described; is "Body" meant?',
                '"From" is required and missing: add it',
            ],
            id="a slip and a gap",
        ),
        pytest.param(
            SHIPPED,
            V2 | {"MediaUrl": "string"},
            (),
            ['"MediaUrl" is described as string'],
            id="a list that has to be a text",
        ),
    ],
)
def test_what_has_to_be_changed_is_said(
    describe: Any,
    template: dict[str, Any],
    properties: dict[str, str],
    required: tuple[str, ...],
    said: list[str],
) -> None:
    """Every reply is refused, or leaves without its text, and nobody knows which field it is."""
    check = compare(template, describe(properties, required))
    assert check is not None
    assert [str(finding) for finding in check.findings] == said
    assert set(check.described) == set(properties)


BOTH = HUB | V2


@pytest.mark.parametrize("template", [SHIPPED, OLDER], ids=["ours", "the older model's"])
@pytest.mark.parametrize("required", [("to", "from", "message"), ("To", "From"), ()], ids=repr)
def test_of_a_thing_described_in_two_spellings_either_will_do(
    template: dict[str, Any], required: tuple[str, ...]
) -> None:
    """A file that works would have to be changed for its own description."""
    check = compare(template, swagger(BOTH, required))
    assert check is not None
    assert check.findings == ()
    # What neither spelling gives is missing all the same.
    (missing,) = (
        compare({"To": "${to}", "Body": "${body}"}, swagger(BOTH, ("from",))) or check
    ).findings
    assert str(missing) == '"from" is required and missing: add it'


@pytest.mark.parametrize("join", ["oneOf", "anyOf"])
@pytest.mark.parametrize("template", [SHIPPED, OLDER], ids=["ours", "the older model's"])
def test_of_bodies_described_as_alternatives_the_nearest_counts(
    template: dict[str, Any], join: str
) -> None:
    """Both would be asked for at once, or neither be seen."""
    bodies = [swagger(V2, ("To", "From")), swagger(HUB, ("to", "from", "message"))]
    schemas = [each["definitions"]["postMessage"] for each in bodies]
    check = compare(template, swagger({}) | {"definitions": {"postMessage": {join: schemas}}})
    assert check is not None
    assert check.findings == ()


def test_open_connectors_fact_17_the_platforms_own_swagger_is_understood() -> None:
    """The check would say that the instance describes nothing."""
    docs = swagger(V2, ("To",)) | {
        "host": "api.openconnectors.us2.ext.hana.ondemand.com",
        "basePath": "/elements/api-v2/hubs/messaging",
        "schemes": ["https"],
    }
    check = compare(SHIPPED, docs)
    assert check is not None
    assert check.findings == ()


@pytest.mark.parametrize(
    "docs",
    [
        pytest.param({}, id="empty"),
        pytest.param([], id="a list"),
        pytest.param(None, id="nothing"),
        pytest.param({"paths": {"/messages": {"get": {}}}}, id="no POST"),
        pytest.param(
            {"paths": {"/contacts": swagger(V2)["paths"]["/messages"]}}, id="another path"
        ),
        pytest.param(swagger(V2) | {"definitions": {}}, id="a reference that leads nowhere"),
        pytest.param(
            swagger(V2) | {"definitions": {"postMessage": {"$ref": "#/definitions/postMessage"}}},
            id="a reference to itself",
        ),
        pytest.param(
            swagger(V2)
            | {"definitions": {"postMessage": {"allOf": [{"$ref": "#/definitions/postMessage"}]}}},
            id="a part of itself",
        ),
    ],
)
def test_a_description_without_such_a_post_is_none(docs: Any) -> None:
    """The check says that all is well although it compared nothing, or never ends."""
    assert compare(SHIPPED, docs) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["paths", "/messages", "post", "parameters", "in", "schema", "$ref"])
            | st.sampled_from(["properties", "required", "allOf", "oneOf", "type", "requestBody"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_description_ends_in_an_error(docs: Any) -> None:
    """The check ends with a traceback for a description nobody has foreseen."""
    compare(SHIPPED, docs)
