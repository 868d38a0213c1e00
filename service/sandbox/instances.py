"""The platform's /instances: what Parley provisions itself with.

Source: SAP Open Connectors' documentation of /instances and of the "twilio" connector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.sandbox.access import Access
from service.sandbox.answers import Refused, answer_json, read_object
from service.sandbox.records import PREFIX, Instance, Records, strip_html

REQUIRED = tuple(
    f"{PREFIX}{name}" for name in ("protocol", "account", "sender", "token", "callback.url")
)
SECRET_ENTRIES = frozenset({f"{PREFIX}token"})
MASK = "********"
ELEMENT = {"id": 7, "name": "Twilio SMS", "key": "twilio", "active": True, "deleted": False}


class Instances:
    """The endpoints of /instances, each for the platform's Authorization."""

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._access = access

    async def create(self, request: Request) -> Response:
        """POST /instances."""
        self._authorize(request)
        body = await _read(request)
        key = str(_object(body, "element").get("key") or "")
        if key != "twilio":
            raise Refused(404, f"No element found with key {key or '(none)'}")
        configuration = _object(body, "configuration")
        missing = [name for name in REQUIRED if not str(configuration.get(name) or "").strip()]
        if missing:
            raise Refused(400, f"Missing required configuration entries: {', '.join(missing)}")
        name = str(body.get("name") or "").strip()
        if not name:
            raise Refused(400, "Missing required field: name")
        instance = self._records.create_instance(key, name, _texts(configuration), _tags(body))
        return answer_json(_shown(instance), instance.id)

    async def list(self, request: Request) -> Response:
        """GET /instances, those that carry every `tags[]` asked for."""
        self._authorize(request)
        wanted = set(request.query_params.getlist("tags[]"))
        found = self._records.instances.values()
        return answer_json([_shown(each) for each in found if wanted <= set(each.tags)])

    async def get(self, request: Request) -> Response:
        """GET /instances/{id}."""
        instance = self._find(request)
        return answer_json(_shown(instance), instance.id)

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
        return answer_json(_shown(instance), instance.id)

    async def patch(self, request: Request) -> Response:
        """PATCH /instances/{id}: replaces the tags."""
        instance = self._find(request)
        instance.tags = [strip_html(tag) for tag in _tags(await _read(request))]
        return answer_json(_shown(instance), instance.id)

    async def delete(self, request: Request) -> Response:
        """DELETE /instances/{id}."""
        instance = self._find(request)
        self._records.delete_instance(instance)
        return answer_json({}, instance.id)

    async def enable(self, request: Request) -> Response:
        """PUT /instances/{id}/enabled."""
        instance = self._find(request)
        instance.disabled = False
        return answer_json(_shown(instance), instance.id)

    async def disable(self, request: Request) -> Response:
        """DELETE /instances/{id}/enabled."""
        instance = self._find(request)
        instance.disabled = True
        return answer_json(_shown(instance), instance.id)

    async def configuration(self, request: Request) -> Response:
        """GET /instances/{id}/configuration."""
        instance = self._find(request)
        return answer_json([_entry(instance, key) for key in instance.configuration], instance.id)

    async def patch_entry(self, request: Request) -> Response:
        """PATCH /instances/{id}/configuration/{entry}: changes one entry."""
        instance = self._find(request)
        body = await _read(request)
        wanted = request.path_params["entry"]
        keys = [key for key, id_ in instance.entry_ids.items() if id_ == wanted]
        if not keys:
            text = f"No configuration entry found with id {wanted}"
            raise Refused(404, text, instance_id=instance.id)
        if "propertyValue" not in body:
            raise Refused(400, "Missing required field: propertyValue", instance_id=instance.id)
        self._records.configure(instance, _texts({keys[0]: body["propertyValue"]}))
        return answer_json(_entry(instance, keys[0]), instance.id)

    def _authorize(self, request: Request) -> None:
        self._access.authorize(request.headers.get("authorization", ""))

    def _find(self, request: Request) -> Instance:
        self._authorize(request)
        id_ = request.path_params["id"]
        instance = self._records.instances.get(id_)
        if instance is None:
            raise Refused(404, f"No element instance found with id {id_}")
        return instance


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


def _shown(instance: Instance) -> dict[str, Any]:
    """Describe an instance as it reads back: secrets masked."""
    return {
        "id": instance.id,
        "name": instance.name,
        "token": instance.token,
        "element": ELEMENT,
        "provisionInteractions": [],
        "valid": True,
        "disabled": instance.disabled,
        "maxCacheSize": 0,
        "cacheTimeToLive": 0,
        "cachingEnabled": False,
        "configuration": {
            key: _masked(key, value) for key, value in instance.configuration.items()
        },
        "tags": instance.tags,
    }


def _entry(instance: Instance, key: str) -> dict[str, Any]:
    value = _masked(key, instance.configuration[key])
    return {"id": instance.entry_ids[key], "key": key, "propertyValue": value}


def _masked(key: str, value: str) -> str:
    return MASK if key in SECRET_ENTRIES else value
