"""What an instance says of its own API: `GET /instances/{id}/docs`. Pure.

Source: Swagger 2.0, as the platform answers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.lab.sandbox.elements import Element

ROW_FIELDS = (
    "account_sid",
    "api_version",
    "body",
    "date_created",
    "date_sent",
    "date_updated",
    "direction",
    "error_code",
    "error_message",
    "from",
    "messaging_service_sid",
    "num_media",
    "num_segments",
    "price",
    "price_unit",
    "sid",
    "status",
    "subresource_uris",
    "to",
    "uri",
)
"""A row of the log: Twilio's Message resource."""

NO_TEXTS = {"error_code": "integer", "subresource_uris": "object"}

ERRORS = {
    "400": "The request is malformed, or Twilio refused it",
    "401": "The secrets or the token are wrong",
    "403": "The instance is disabled",
    "404": "There is no such resource",
    "405": "The resource has no such method",
    "406": "The answer is JSON, which the request does not take",
    "409": "The request is at odds with what there is",
    "415": "The body is not JSON",
    "429": "There were too many requests, or one is too large",
    "500": "The platform failed",
}


def describe_api(
    element: Element, *, host: str, scheme: str, resources: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Describe the API of an instance.

    host: with its port, as the caller knows it. resources: common resources besides its own, each
        with the names of its fields.
    """
    sent = {
        "name": "body",
        "in": "body",
        "description": "The message to send",
        "required": True,
        "schema": {"$ref": "#/definitions/messagesPostRequest"},
    }
    path = {
        "name": "id",
        "in": "path",
        "description": "The message's sid",
        "type": "string",
        "required": True,
    }
    paths: dict[str, Any] = {
        "/messages": {
            "post": _operation("createMessage", "Send a message", [sent], _reference("message")),
            "get": _operation("getMessages", "List messages", _paging(), _list_of("message")),
        },
        "/messages/{id}": {
            "get": _operation("getMessageById", "Read a message", [path], _reference("message"))
        },
        "/messages/{id}/media": {
            "get": _operation("getMessageMedia", "List its pictures", [path], _list_of("media"))
        },
        "/ping": {"get": _operation("getPing", "Ask whether it works", [], _reference("ping"))},
    }
    definitions = {
        **_request_definitions(element),
        "message": _object({name: NO_TEXTS.get(name, "string") for name in ROW_FIELDS}),
        "media": _object(dict.fromkeys(("sid", "parent_sid", "content_type", "uri"), "string")),
        "ping": _object({"dateTime": "string", "endpoint": "string"}),
    }
    for name, fields in resources.items():
        found = _operation(f"get_{name}", f"List {name}", _paging(), _list_of(name))
        paths.setdefault(f"/{name}", {})["get"] = found
        definitions[name] = _object(dict.fromkeys(fields, "string"))
    return {
        "swagger": "2.0",
        "info": {"title": element.name, "version": "api-v2", "x-element-key": element.key},
        "host": host,
        "basePath": "/elements/api-v2/hubs/messaging",
        "schemes": [scheme],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": paths,
        "definitions": definitions,
    }


def _request_definitions(element: Element) -> dict[str, Any]:
    """Describe a message to send: one model of fields, or all that are taken."""
    models = {name: _object(fields) for name, fields in element.bodies.items()}
    request: dict[str, Any] = {"allOf": [_reference(name) for name in models]}
    if len(models) > 1:
        request["description"] = "The fields of any one of the models; the others are left out"
    if element.needed:
        request["required"] = list(element.needed)
    return {**models, "messagesPostRequest": request}


def _object(fields: Mapping[str, str]) -> dict[str, Any]:
    lists = {"type": "array", "items": {"type": "string"}}
    properties = {
        name: lists if kind == "array" else {"type": kind, "x-samplevalue": name}
        for name, kind in fields.items()
    }
    return {"type": "object", "properties": properties}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _reference(name)}


def _paging() -> list[dict[str, Any]]:
    kinds = {
        "where": ("string", "Which rows, in CEQL"),
        "page": ("integer", "From 1"),
        "pageSize": ("integer", "Rows of a page"),
    }
    return [
        {"name": name, "in": "query", "description": text, "type": kind, "required": False}
        for name, (kind, text) in kinds.items()
    ]


def _operation(
    id_: str, summary: str, parameters: list[dict[str, Any]], schema: dict[str, Any]
) -> dict[str, Any]:
    header = {
        "name": "Authorization",
        "in": "header",
        "description": "User <secret>, Organization <secret>, Element <token>",
        "type": "string",
        "required": True,
    }
    answers: dict[str, Any] = {"200": {"description": "OK", "schema": schema}}
    answers |= {status: {"description": text} for status, text in ERRORS.items()}
    return {
        "operationId": id_,
        "summary": summary,
        "tags": ["messages"],
        "parameters": [header, *parameters],
        "responses": answers,
    }
