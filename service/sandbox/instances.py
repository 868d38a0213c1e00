"""The platform's /instances: what Parley provisions itself with.

Source: SAP Open Connectors' documentation of /instances and of the "twilio" connector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.sandbox.access import Access, read_credentials
from service.sandbox.answers import Refused, answer_json, read_object
from service.sandbox.elements import ELEMENTS
from service.sandbox.records import Instance, Records, strip_html

MASK = "********"


class Instances:
    """The endpoints of /instances, each for the platform's Authorization.

    The twins without an id are for the Authorization of the instance they act on.
    """

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._access = access

    async def create(self, request: Request) -> Response:
        """POST /instances."""
        self._authorize(request)
        body = await _read(request)
        key = str(_object(body, "element").get("key") or request.path_params.get("key") or "")
        if key not in ELEMENTS or request.path_params.get("key", key) != key:
            raise Refused(404, f"No element found with key {key or '(none)'}")
        configuration = _object(body, "configuration")
        missing = [
            name
            for name in ELEMENTS[key].required
            if not str(configuration.get(name) or "").strip()
        ]
        if missing:
            raise Refused(400, f"Missing required configuration entries: {', '.join(missing)}")
        name = str(body.get("name") or "").strip()
        if not name:
            raise Refused(400, "Missing required field: name")
        instance = self._records.create_instance(key, name, _texts(configuration), _tags(body))
        return self._answer(instance)

    async def list(self, request: Request) -> Response:
        """GET /instances, those that carry every `tags[]` asked for; with a token, that one."""
        if _has_token(request):
            return await self.get(request)
        self._authorize(request)
        key = request.path_params.get("key")
        if key is not None and key not in ELEMENTS:
            raise Refused(404, f"No element found with key {key}")
        wanted = set(request.query_params.getlist("tags[]"))
        found = [
            each
            for each in self._records.instances.values()
            if wanted <= set(each.tags) and key in {None, each.element}
        ]
        return answer_json([self._shown(each) for each in found])

    async def get(self, request: Request) -> Response:
        """GET /instances/{id}."""
        instance = self._find(request)
        return self._answer(instance)

    async def put(self, request: Request) -> Response:
        """PUT /instances/{id}: name, tags and configuration, each if given."""
        instance = self._find(request)
        body = await _read(request)
        configuration = _object(body, "configuration")
        if body.get("name"):
            instance.name = strip_html(str(body["name"]))
        if "tags" in body:
            instance.tags = [strip_html(tag) for tag in _tags(body)]
        self._records.configure(instance, _texts(configuration))
        return self._answer(instance)

    async def patch(self, request: Request) -> Response:
        """PATCH /instances/{id}: replaces the tags."""
        instance = self._find(request)
        instance.tags = [strip_html(tag) for tag in _tags(await _read(request))]
        return self._answer(instance)

    async def delete(self, request: Request) -> Response:
        """DELETE /instances/{id}."""
        instance = self._find(request)
        self._records.delete_instance(instance)
        return answer_json({}, instance.id)

    async def enable(self, request: Request) -> Response:
        """PUT /instances/{id}/enabled."""
        instance = self._find(request)
        instance.disabled = False
        return self._answer(instance)

    async def disable(self, request: Request) -> Response:
        """DELETE /instances/{id}/enabled."""
        instance = self._find(request)
        instance.disabled = True
        return self._answer(instance)

    async def configuration(self, request: Request) -> Response:
        """GET /instances/{id}/configuration."""
        instance = self._find(request)
        return answer_json([_entry(instance, key) for key in instance.configuration], instance.id)

    async def entry(self, request: Request) -> Response:
        """GET /instances/{id}/configuration/{entry}."""
        instance = self._find(request)
        return answer_json(_entry(instance, _key(request, instance)), instance.id)

    async def patch_entry(self, request: Request) -> Response:
        """PATCH /instances/{id}/configuration/{entry}: changes one entry."""
        instance = self._find(request)
        body = await _read(request)
        key = _key(request, instance)
        if "propertyValue" not in body:
            raise Refused(400, "Missing required field: propertyValue", instance_id=instance.id)
        self._records.configure(instance, _texts({key: body["propertyValue"]}))
        return answer_json(_entry(instance, key), instance.id)

    async def docs(self, request: Request) -> Response:
        """GET /instances/{id}/docs: what the instance says of its own API."""
        instance = self._find(request)
        return answer_json(instance.kind.docs(), instance.id)

    def _authorize(self, request: Request) -> None:
        self._access.authorize(request.headers.get("authorization", ""))

    def _find(self, request: Request) -> Instance:
        header = request.headers.get("authorization", "")
        if "id" not in request.path_params:
            return self._access.instance(header, even_disabled=True)
        self._authorize(request)
        id_ = request.path_params["id"]
        instance = self._records.instances.get(id_)
        if instance is None:
            raise Refused(404, f"No element instance found with id {id_}")
        return instance

    def _answer(self, instance: Instance) -> Response:
        return answer_json(self._shown(instance), instance.id)

    def _shown(self, instance: Instance) -> dict[str, Any]:
        """Describe an instance as it reads back: secrets masked."""
        tags: Sequence[Any] = instance.tags
        if self._records.switches.tag_objects:
            tags = [{"id": place, "name": tag} for place, tag in enumerate(tags, start=1)]
        return {
            "id": instance.id,
            "name": instance.name,
            "token": instance.token,
            "element": instance.kind.described(),
            "provisionInteractions": [],
            "valid": True,
            "disabled": instance.disabled,
            "maxCacheSize": 0,
            "cacheTimeToLive": 0,
            "cachingEnabled": False,
            "configuration": {key: _masked(instance, key) for key in instance.configuration},
            "tags": tags,
        }


async def _read(request: Request) -> dict[str, Any]:
    return read_object(request.headers.get("content-type", ""), await request.body())


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise Refused(400, f"The field {name} must be an object")
    return value or {}


def _texts(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts, as the platform keeps them. It would keep a mask that is written back."""
    return {name: "" if value is None else str(value) for name, value in configuration.items()}


def _tags(body: Mapping[str, Any]) -> list[str]:
    tags = body.get("tags") or []
    if not isinstance(tags, list):
        raise Refused(400, "The field tags must be a list")
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    return [str(name) for name in names if name]


def _entry(instance: Instance, key: str) -> dict[str, Any]:
    value = _masked(instance, key)
    return {"id": instance.entry_ids[key], "key": key, "propertyValue": value}


def _key(request: Request, instance: Instance) -> str:
    wanted = request.path_params["entry"]
    for key, id_ in instance.entry_ids.items():
        if id_ == wanted:
            return key
    text = f"No configuration entry found with id {wanted}"
    raise Refused(404, text, instance_id=instance.id)


def _masked(instance: Instance, key: str) -> str:
    return MASK if key in instance.kind.secret else instance.configuration[key]


def _has_token(request: Request) -> bool:
    return "Element" in read_credentials(request.headers.get("authorization", ""))
