"""Common resources over HTTP: definitions of objects, and the mappings of a vendor's rows to them.

Source: SAP Open Connectors' documentation of common resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.lab.sandbox.access import Access
from service.lab.sandbox.answers import Refused, answer_json, read_body, require
from service.lab.sandbox.elements import find_element
from service.lab.sandbox.mappings import Body, Full, Level, Mappings
from service.lab.sandbox.records import Records

FIELDS_LIMIT = 200
NAME_LIMIT = 200
"""Fields of a definition or a mapping, and characters of each name: what is kept has a bound."""

ORGANIZATION = "organization"


class Resources:
    """The endpoints of definitions and transformations.

    Each acts on the organization, on a connector of it, or on one instance, as its path says.
    """

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._access = access

    @property
    def _mappings(self) -> Mappings:
        return self._records.mappings

    async def define(self, request: Request) -> Response:
        """POST or PUT .../objects/{name}/definitions."""
        level, name = self._place(request)
        body = await read_body(request)
        require(body, "fields")
        fields = [_definition_field(each, level) for each in _fields(body)]
        definition = {"objectName": name, "fields": fields}
        self._put(self._mappings.definitions, request, level, name, definition)
        return answer_json(definition, _instance_of(level))

    async def definition(self, request: Request) -> Response:
        """GET .../objects/{name}/definitions."""
        level, name = self._place(request)
        return answer_json(_find(self._mappings.definitions, level, name), _instance_of(level))

    async def undefine(self, request: Request) -> Response:
        """DELETE .../objects/{name}/definitions."""
        level, name = self._place(request)
        _find(self._mappings.definitions, level, name)
        del self._mappings.definitions[level, name]
        return answer_json({}, _instance_of(level))

    async def transform(self, request: Request) -> Response:
        """POST or PUT .../transformations/{name}."""
        level, name = self._place(request)
        body = await read_body(request)
        require(body, "vendorName", "fields")
        configuration = body.get("configuration")
        transformation = {
            "objectName": name,
            "vendorName": _name(body, "vendorName"),
            "fields": [self._mapped_field(each, level, name) for each in _fields(body)],
            "configuration": configuration[:10] if isinstance(configuration, list) else [],
        }
        self._put(self._mappings.transformations, request, level, name, transformation)
        return answer_json(transformation, _instance_of(level))

    async def transformation(self, request: Request) -> Response:
        """GET .../transformations/{name}."""
        level, name = self._place(request)
        return answer_json(_find(self._mappings.transformations, level, name), _instance_of(level))

    async def untransform(self, request: Request) -> Response:
        """DELETE .../transformations/{name}."""
        level, name = self._place(request)
        _find(self._mappings.transformations, level, name)
        del self._mappings.transformations[level, name]
        return answer_json({}, _instance_of(level))

    async def list(self, request: Request) -> Response:
        """GET /common-resources: every definition of the organization."""
        self._authorize(request)
        found = self._mappings.definitions.items()
        rows = [
            {"name": name, "fields": definition["fields"]}
            for (level, name), definition in found
            if level == ORGANIZATION
        ]
        return answer_json(rows)

    async def definitions(self, request: Request) -> Response:
        """GET .../objects/definitions: all of them by name; 404 for none."""
        level = self._level(request)
        return self._all(self._mappings.definitions, level, "definitions")

    async def transformations(self, request: Request) -> Response:
        """GET .../transformations: all of them by the name of their resource; 404 for none."""
        level = self._level(request)
        return self._all(self._mappings.transformations, level, "transformations")

    def _all(self, kept: Mapping[tuple[Level, str], Body], level: Level, what: str) -> Response:
        found: Body = {name: body for (of, name), body in kept.items() if of == level}
        if not found:
            raise Refused(404, f"No {what} found")
        return answer_json(found | {"level": _level_of(level)}, _instance_of(level))

    def _authorize(self, request: Request) -> None:
        self._access.authorize(request.headers.get("authorization", ""))

    def _place(self, request: Request) -> tuple[Level, str]:
        """Tell whose it is, and its name, by the path."""
        self._authorize(request)
        name = str(request.path_params["name"])
        if len(name) > NAME_LIMIT:
            raise Refused(400, f"A name has at most {NAME_LIMIT} characters")
        return self._level(request), name

    def _level(self, request: Request) -> Level:
        """Tell whose it is by the path."""
        self._authorize(request)
        given = request.path_params
        if "id" in given:
            if given["id"] not in self._records.instances:
                raise Refused(404, f"No element instance found with id {given['id']}")
            request.state.instance_id = given["id"]
            return int(given["id"])
        if "key" in given:
            element = find_element(given["key"])
            if element is None:
                raise Refused(404, f"No element found with key {given['key']}")
            return element.key
        return ORGANIZATION

    def _put(
        self,
        kept: dict[tuple[Level, str], Body],
        request: Request,
        level: Level,
        name: str,
        body: Body,
    ) -> None:
        if request.method == "POST" and (level, name) in kept:
            raise Refused(409, f"{name} exists already; PUT replaces it")
        if request.method == "PUT":
            _find(kept, level, name)
        try:
            self._mappings.put(kept, level, name, body)
        except Full:
            raise Refused(429, "The sandbox keeps no more of these; delete some") from None

    def _mapped_field(self, field: Mapping[str, Any], level: Level, name: str) -> Body:
        path = _name(field, "path")
        vendor = _name(field, "vendorPath") if field.get("vendorPath") else None
        own = self._mappings.definitions.get((level, name))
        defined = own or self._mappings.definitions.get((ORGANIZATION, name)) or {"fields": []}
        kinds = {each["path"]: each["type"] for each in defined["fields"]}
        kind = kinds.get(path, str(field.get("type") or "string")[:NAME_LIMIT])
        return {"path": path, "type": kind, "vendorPath": vendor, "level": _level_of(level)}


def _find(kept: Mapping[tuple[Level, str], Body], level: Level, name: str) -> Body:
    found = kept.get((level, name))
    if found is None:
        raise Refused(404, f"No object found with name {name}")
    return found


def _fields(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    fields = body["fields"]
    if not isinstance(fields, list) or not all(isinstance(each, dict) for each in fields):
        raise Refused(400, "The field fields must be a list of objects")
    if len(fields) > FIELDS_LIMIT:
        raise Refused(429, f"There may be at most {FIELDS_LIMIT} fields")
    return fields


def _definition_field(field: Mapping[str, Any], level: Level) -> Body:
    kind = str(field.get("type") or "string")[:NAME_LIMIT]
    return {"path": _name(field, "path"), "type": kind, "associatedLevel": _level_of(level)}


def _name(field: Mapping[str, Any], name: str) -> str:
    require(field, name)
    value = field[name]
    if not isinstance(value, str) or len(value) > NAME_LIMIT:
        raise Refused(400, f"The field {name} must be a text of at most {NAME_LIMIT} characters")
    return value


def _level_of(level: Level) -> str:
    return "instance" if isinstance(level, int) else ORGANIZATION


def _instance_of(level: Level) -> int | None:
    return level if isinstance(level, int) else None
