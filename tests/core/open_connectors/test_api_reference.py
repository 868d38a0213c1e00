"""An instance's API description as a reference."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.open_connectors.api_reference import FIELDS, ApiOperation, read_reference
from service.lab.sandbox.docs import describe_api
from service.lab.sandbox.elements import ELEMENTS
from tests.present import present

NESTED: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "Twilio\n SMS", "version": 2},
    "paths": {
        "/orders/{id}": {
            "parameters": [{"name": "id", "in": "path", "type": "string", "required": True}],
            "patch": {
                "operationId": "changeOrder",
                "summary": "Change\n an order",
                "parameters": [
                    {"$ref": "#/parameters/day"},
                    {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/order"}},
                    {"name": "Authorization", "in": "header", "type": "string"},
                ],
                "responses": {
                    "200": {"schema": {"type": "array", "items": {"$ref": "#/definitions/order"}}},
                    "404": {"description": "There is none"},
                },
            },
        }
    },
    "parameters": {
        "day": {"name": "day", "in": "query", "type": "string", "format": "date", "required": True}
    },
    "definitions": {
        "order": {
            "required": ["state"],
            "properties": {
                "state": {"type": "string", "enum": ["open", "shut"], "description": "As it is"},
                "person": {"$ref": "#/definitions/person"},
                "lines": {"type": "array", "items": {"$ref": "#/definitions/line"}},
                "more": {"$ref": "#/definitions/order"},
            },
        },
        "person": {"title": "who", "properties": {"name": {"type": "string", "example": "Ada"}}},
        "line": {"properties": {"count": {"type": "integer"}}},
    },
}


def only(docs: Any) -> ApiOperation:
    """Read the only operation of a description."""
    reference = read_reference(docs)
    assert reference is not None
    (operation,) = reference.operations
    return operation


def test_an_operation_tells_its_parameters_models_and_answers() -> None:
    """Whoever reads it would have to open the JSON all the same."""
    operation = only(NESTED)

    assert (operation.id, operation.method, operation.path) == (
        "changeOrder",
        "PATCH",
        "/orders/{id}",
    )
    assert (operation.resource, operation.summary) == ("orders", "Change an order")
    assert [(each.name, each.place, each.kind) for each in operation.parameters] == [
        ("id", "path", "string"),
        ("day", "query", "string (date)"),
    ]
    fields = {each.path: each for each in present(operation.body).fields}
    assert fields["state"].required
    assert fields["state"].description == "As it is; one of open, shut"
    assert (fields["lines"].kind, fields["lines[].count"].kind) == ("list of line", "integer")
    assert fields["person.name"].kind == "string"
    assert "more.more.more.state" in fields
    assert not [path for path in fields if path.count("more") > 4]
    ok, missing = operation.answers
    assert (ok.status, present(ok.model).name, present(ok.model).is_list) == ("200", "order", True)
    assert (missing.description, missing.model) == ("There is none", None)
    assert present(ok.model).sample == [{"state": "open"}]


def test_the_example_is_a_command_with_what_is_required() -> None:
    """An example that can't be typed explains nothing."""
    assert shlex.split(only(NESTED).example) == [
        *("parley", "connector", "request", "PATCH", "/orders/ID"),
        *("--query", "day=DAY", "--data", '{"state": "open"}'),
    ]


def test_openapi_3_is_read_as_well() -> None:
    """The day the platform answers it, the reference would be empty."""
    schema = {"properties": {"To": {"type": "string"}}, "required": ["To"]}
    content = {"content": {"application/json": {"schema": schema}}}
    path = {"post": {"requestBody": content, "responses": {"201": content}}}
    operation = only({"openapi": "3.0.0", "paths": {"/hubs/messaging/messages": path}})

    assert operation.id == "POST /hubs/messaging/messages"
    assert operation.resource == "messages"
    assert [each.path for each in present(operation.body).fields] == ["To"]
    assert present(operation.answers[0].model).sample == {"To": "text"}


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ("createMessage", ["createMessage"]),
        ("CREATEMESSAGE", ["createMessage"]),
        ("get  /messages", ["getMessages"]),
        ("/messages", ["getMessages", "createMessage"]),
        ("nothing", []),
    ],
)
def test_an_operation_is_found_by_name_path_or_both(wanted: str, ids: list[str]) -> None:
    """Names are long, and paths are what people know."""
    reference = read_reference(described("twilio"))

    assert [each.id for each in present(reference).find(wanted)] == ids


def described(element: str) -> dict[str, Any]:
    """Describe the sandbox's own instance."""
    return describe_api(ELEMENTS[element], host="h", scheme="https", resources={"texts": ["id"]})


def test_words_are_searched_everywhere_and_what_is_near_is_named() -> None:
    """Who knows a field's name and no operation's finds nothing."""
    reference = read_reference(described("twilio"))

    assert [each.id for each in present(reference).search("STATUSCALLBACK")] == ["createMessage"]
    assert [each.id for each in present(reference).search("pictures")] == ["getMessageMedia"]
    assert present(reference).search("nowhere") == ()
    assert present(reference).near("creatMesage")[0] == "createMessage"


def test_of_two_spellings_of_a_field_the_example_has_one() -> None:
    """Sent as it stands, the example would say everything twice."""
    reference = read_reference(described("twilio"))
    (send,) = present(reference).find("createMessage")
    sent = json.loads(shlex.split(send.example)[-1])

    assert {"To", "From", "Body"} <= sent.keys()
    assert not {"to", "from", "message"} & sent.keys()
    (v2,) = present(read_reference(described("twiliov2"))).find("createMessage")
    assert json.loads(shlex.split(v2.example)[-1]).keys() == {"To", "From"}


def test_a_wide_description_that_refers_to_itself_ends() -> None:
    """One odd model would take the command's memory for ever."""
    fields = {f"f{n}": {"$ref": "#/definitions/a"} for n in range(100)}
    answers = {"200": {"schema": {"$ref": "#/definitions/a"}}}
    docs = {
        "paths": {"/a": {"get": {"responses": answers}}},
        "definitions": {"a": {"properties": fields}},
    }
    (answer,) = only(docs).answers

    assert len(present(answer.model).fields) == FIELDS
    assert json.dumps(present(answer.model).sample).count('"f') <= FIELDS


@pytest.mark.parametrize("docs", [None, [], {}, {"paths": []}, {"paths": {"/x": {"get": 7}}}])
def test_what_describes_nothing_is_no_reference(docs: list[Any] | dict[str, Any] | None) -> None:
    """A page for a login would be shown as an empty API."""
    assert read_reference(docs) is None


WORDS = [
    "get",
    "parameters",
    "responses",
    "200",
    "schema",
    "properties",
    "items",
    "type",
    "x",
    "allOf",
    "required",
    "enum",
    "$ref",
    "in",
    "name",
    "tags",
    "content",
    "requestBody",
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(JSON)
def test_whatever_is_described_is_read_without_a_failure(part: Any) -> None:
    """A description comes from outside; a traceback would be all there is to read."""
    reference = read_reference(
        {"paths": {"/x": {"get": {"responses": {"200": part}}, "post": part}}}
    )
    for operation in reference.operations if reference else ():
        assert shlex.split(operation.example)[0] == "parley"
        assert operation.words
