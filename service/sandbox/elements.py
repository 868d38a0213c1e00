"""The connectors the sandbox has, "twilio" and "twiliov2": their entries, their own /docs. Pure.

Source: SAP Open Connectors' documentation of both. The signature key is masked here as the other
secrets are; whether the platform does so is not documented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PREFIX = "messaging.sms.twilio."
EVENTS = "event.notification."
SIGNATURE_KEY = f"{EVENTS}signature.key"
NUMBER_OF_ACCOUNT = "+15005550006"
"""Texts go to it where no entry names a sender: Twilio's own number for tests."""


@dataclass(frozen=True, slots=True)
class Element:
    """A connector of the catalogue: which entry holds what.

    required: entries without which POST /instances is refused. secret: read back masked.
    fields: of the body of POST /messages, the first of each needed ones being `needed`.
    """

    id: int
    key: str
    name: str
    account: str
    token: str
    sender: str
    callback_url: str
    required: tuple[str, ...]
    secret: frozenset[str]
    fields: dict[str, str]
    needed: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """Describe it as instances name it."""
        return {
            "id": self.id,
            "name": self.name,
            "key": self.key,
            "hub": "messaging",
            "active": True,
            "deleted": False,
        }

    def docs(self) -> dict[str, Any]:
        """Return the Swagger 2.0 description an instance gives of its own API."""
        kinds = {"array": {"type": "array", "items": {"type": "string"}}}
        properties = {
            name: kinds.get(kind, {"type": kind, "x-samplevalue": name})
            for name, kind in self.fields.items()
        }
        sent = {
            "name": "body",
            "in": "body",
            "description": "The message to send",
            "required": True,
            "schema": {"$ref": "#/definitions/messagesPostRequest"},
        }
        path = {"name": "id", "in": "path", "type": "string", "required": True}
        paging = [
            {"name": "where", "in": "query", "type": "string", "required": False},
            {"name": "page", "in": "query", "type": "integer", "required": False},
            {"name": "pageSize", "in": "query", "type": "integer", "required": False},
        ]
        return {
            "swagger": "2.0",
            "info": {"title": self.name, "version": "api-v2", "x-element-key": self.key},
            "basePath": "/elements/api-v2/hubs/messaging",
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "paths": {
                "/messages": {
                    "post": _operation("createMessage", [sent]),
                    "get": _operation("getMessages", paging),
                },
                "/messages/{id}": {"get": _operation("getMessageById", [path])},
                "/messages/{id}/media": {"get": _operation("getMessageMedia", [path])},
                "/ping": {"get": _operation("getPing", [])},
            },
            "definitions": {
                "messagesPostRequest": {
                    "type": "object",
                    "properties": properties,
                    "required": list(self.needed),
                }
            },
        }


def _operation(id_: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    answers = {"200": {"description": "OK"}, "400": {"description": "Bad Request"}}
    return {"operationId": id_, "parameters": parameters, "responses": answers}


TWILIO = Element(
    id=7,
    key="twilio",
    name="Twilio SMS",
    account=f"{PREFIX}account",
    token=f"{PREFIX}token",
    sender=f"{PREFIX}sender",
    callback_url=f"{PREFIX}callback.url",
    required=tuple(
        f"{PREFIX}{name}" for name in ("protocol", "account", "sender", "token", "callback.url")
    ),
    secret=frozenset({f"{PREFIX}token", SIGNATURE_KEY}),
    fields={"to": "string", "from": "string", "subject": "string", "message": "string"},
    needed=("to", "from", "message"),
)

TWILIO_V2 = Element(
    id=6042,
    key="twiliov2",
    name="Twilio",
    account="username",
    token="password",  # noqa: S106  (the entry's name)
    sender=f"{PREFIX}sender",
    callback_url=f"{EVENTS}callback.url",
    required=("username", "password"),
    secret=frozenset({"password", SIGNATURE_KEY}),
    fields={"To": "string", "From": "string", "Body": "string", "MediaUrl": "array"},
    needed=("To", "From"),
)

ELEMENTS = {each.key: each for each in (TWILIO, TWILIO_V2)}
