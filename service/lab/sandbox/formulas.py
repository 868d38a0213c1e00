"""Formulas: templates of what the platform does with instances, and the instances of them.

Nothing is executed. What matters here is which formulas use an instance of a connector, and that
they are broken when it is deleted.

Source: SAP Open Connectors' documentation of formulas.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.lab.sandbox.access import Access
from service.lab.sandbox.answers import Refused, answer_json, read_body, require
from service.lab.sandbox.message import now_s
from service.lab.sandbox.records import Records, strip_html

KEPT = 200
"""Templates, and as many instances of them."""

BODY_CHARACTERS = 100_000
"""Of one of them."""

Body = dict[str, Any]


@dataclass(slots=True)
class FormulaInstance:
    """A formula at work. uses: instances of connectors, by the template's keys."""

    id: int
    template: int
    name: str
    configuration: Body
    uses: dict[str, int]
    active: bool = True
    created_at: str = field(default_factory=now_s)


class Formulas:
    """The endpoints of /formulas, each for the platform's Authorization."""

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._access = access
        self._templates: dict[int, Body] = {}
        self._instances: dict[int, FormulaInstance] = {}
        self._ids = itertools.count(301)

    async def create(self, request: Request) -> Response:
        """POST /formulas."""
        self._authorize(request)
        body = await read_body(request)
        require(body, "name")
        _check_room(self._templates, body)
        entries = body.get("configuration") or []
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise Refused(400, "The field configuration must be a list of objects")
        for entry in entries:
            require(entry, "key", "name", "type")
        keys = [str(entry["key"]) for entry in entries]
        if len(set(keys)) < len(keys):
            raise Refused(409, "Two entries of the configuration have the same key")
        id_ = next(self._ids)
        made = {
            "id": id_,
            "name": strip_html(str(body["name"])),
            "userId": 1,
            "accountId": 1,
            "createdDate": now_s(),
            "active": True,
            "published": False,
            "singleThreaded": body.get("singleThreaded") is True,
            "steps": body.get("steps") or [],
            "triggers": body.get("triggers") or [],
            "configuration": entries,
        }
        self._templates[id_] = made
        return answer_json(made)

    async def list(self, request: Request) -> Response:
        """GET /formulas."""
        self._authorize(request)
        return answer_json(list(self._templates.values()))

    async def get(self, request: Request) -> Response:
        """GET /formulas/{id}."""
        return answer_json(self._template(request))

    async def delete(self, request: Request) -> Response:
        """DELETE /formulas/{id}, with its instances."""
        id_ = self._template(request)["id"]
        del self._templates[id_]
        for each in [each for each in self._instances.values() if each.template == id_]:
            del self._instances[each.id]
        return answer_json({})

    async def instantiate(self, request: Request) -> Response:
        """POST /formulas/{id}/instances."""
        template = self._template(request)
        body = await read_body(request)
        require(body, "name")
        _check_room(self._instances, body)
        configuration = body.get("configuration") or {}
        if not isinstance(configuration, dict):
            raise Refused(400, "The field configuration must be an object")
        require(configuration, *(str(each["key"]) for each in template["configuration"]))
        wanted = [each for each in template["configuration"] if each["type"] == "elementInstance"]
        uses = {str(each["key"]): self._used(configuration, str(each["key"])) for each in wanted}
        made = FormulaInstance(
            next(self._ids), template["id"], strip_html(str(body["name"])), configuration, uses
        )
        self._instances[made.id] = made
        return answer_json(self._shown(made))

    async def instances(self, request: Request) -> Response:
        """GET /formulas/{id}/instances."""
        id_ = self._template(request)["id"]
        found = [each for each in self._instances.values() if each.template == id_]
        return answer_json([self._shown(each) for each in found])

    async def using(self, request: Request) -> Response:
        """GET /formulas/instances; with `elementInstanceId`, those that use that instance."""
        self._authorize(request)
        wanted = request.query_params.get("elementInstanceId")
        found = [
            each
            for each in self._instances.values()
            if wanted is None or wanted in map(str, each.uses.values())
        ]
        return answer_json([self._shown(each) for each in found])

    async def instance(self, request: Request) -> Response:
        """GET /formulas/{id}/instances/{instance}."""
        return answer_json(self._shown(self._instance(request)))

    async def remove(self, request: Request) -> Response:
        """DELETE /formulas/{id}/instances/{instance}."""
        del self._instances[self._instance(request).id]
        return answer_json({})

    async def activate(self, request: Request) -> Response:
        """PUT /formulas/{id}/instances/{instance}/active."""
        found = self._instance(request)
        if self._broken(found):
            raise Refused(400, "The formula uses an element instance that is deleted")
        found.active = True
        return answer_json(self._shown(found))

    async def deactivate(self, request: Request) -> Response:
        """DELETE /formulas/{id}/instances/{instance}/active."""
        found = self._instance(request)
        found.active = False
        return answer_json(self._shown(found))

    def _authorize(self, request: Request) -> None:
        self._access.authorize(request.headers.get("authorization", ""))

    def _template(self, request: Request) -> Body:
        self._authorize(request)
        id_ = request.path_params["id"]
        if id_ not in self._templates:
            raise Refused(404, f"No formula found with id {id_}")
        return self._templates[id_]

    def _instance(self, request: Request) -> FormulaInstance:
        template = self._template(request)["id"]
        id_ = request.path_params["instance"]
        found = self._instances.get(id_)
        if found is None or found.template != template:
            raise Refused(404, f"No formula instance found with id {id_}")
        return found

    def _used(self, configuration: Mapping[str, Any], key: str) -> int:
        value = configuration[key]
        known = {str(id_): id_ for id_ in self._records.instances}
        if isinstance(value, bool) or str(value) not in known:
            raise Refused(400, f"{key} is no element instance there is")
        return known[str(value)]

    def _broken(self, found: FormulaInstance) -> Sequence[str]:
        """Name the keys whose instance is no more."""
        return [key for key, id_ in found.uses.items() if id_ not in self._records.instances]

    def _shown(self, found: FormulaInstance) -> Body:
        template = self._templates[found.template]
        broken = self._broken(found)
        shown = {
            "id": found.id,
            "name": found.name,
            "formula": {"id": template["id"], "name": template["name"], "active": True},
            "active": found.active and not broken,
            "valid": not broken,
            "createdDate": found.created_at,
            "configuration": found.configuration,
        }
        if broken:
            shown["reason"] = f"The element instance of {', '.join(broken)} is deleted"
        return shown


def _check_room(kept: Mapping[int, Any], body: Body) -> None:
    if len(kept) >= KEPT:
        raise Refused(429, f"The sandbox keeps at most {KEPT} of these; delete some")
    if len(msgspec.json.encode(body)) > BODY_CHARACTERS:
        raise Refused(429, f"A formula has at most {BODY_CHARACTERS} bytes")
