"""The platform's /instances: what Parley provisions itself with.

Source: SAP Open Connectors' documentation of /instances and of the "twilio" connector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.lab.sandbox.access import Access, read_credentials
from service.lab.sandbox.answers import Refused, answer_json, read_body, require
from service.lab.sandbox.docs import describe_api
from service.lab.sandbox.elements import Element, find_element
from service.lab.sandbox.instance import Instance
from service.lab.sandbox.records import Records, strip_html

MASK = "********"

INSTANCES_KEPT = 200
CHARACTERS = 100_000
"""Instances, and what each may hold of name, tags and configuration: what is kept has a bound."""

USER = {
    "id": 1,
    "emailAddress": "sandbox@example.com",
    "firstName": "The",
    "lastName": "Sandbox",
}
"""Whose instances they are."""


class Instances:
    """The endpoints of /instances, each for the platform's Authorization.

    The twins without an id are for the Authorization of the instance they act on.
    """

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._access = access

    async def element(self, request: Request) -> Response:
        """GET /elements/{key}."""
        self._authorize(request)
        return answer_json(_element(request).described())

    async def create(self, request: Request) -> Response:
        """POST /instances."""
        self._authorize(request)
        body = await read_body(request)
        element = _wanted_element(request, body)
        require(body, "name")
        name = str(body["name"]).strip()
        require({"name": name}, "name")
        configuration, tags = _texts(_object(body, "configuration")), _tags(body)
        missing = [each for each in element.required if not configuration.get(each, "").strip()]
        if missing:
            raise Refused(400, f"Missing required configuration entries: {', '.join(missing)}")
        if len(self._records.instances) >= INSTANCES_KEPT:
            raise Refused(429, f"The sandbox keeps at most {INSTANCES_KEPT} instances; delete some")
        _check_room(name, tags, configuration)
        instance = self._records.create_instance(element.key, name, configuration, tags)
        return self._answer(instance)

    async def list(self, request: Request) -> Response:
        """GET /instances; with a token, that one.

        Searched by `searchText`, a part of the name, and by `tags[]`, each of which has to be
        there. A search without a match is 404.
        """
        if _has_token(request):
            return await self.get(request)
        self._authorize(request)
        key = _element(request).key if "key" in request.path_params else None
        tags = set(request.query_params.getlist("tags[]"))
        text = request.query_params.get("searchText", "").lower()
        if self._records.switches.search_ignored:
            tags, text = set(), ""
        found = [
            each
            for each in self._records.instances.values()
            if tags <= set(each.tags) and text in each.name.lower() and key in {None, each.element}
        ]
        if not found and (tags or text):
            raise Refused(404, "No element instances found")
        rows = [self._shown(each) for each in found]
        if self._records.switches.bare_lists:
            rows = [row | {"configuration": {}} for row in rows]
        return answer_json(rows)

    async def get(self, request: Request) -> Response:
        """GET /instances/{id}."""
        return self._answer(self._find(request))

    async def change(self, request: Request) -> Response:
        """PUT or PATCH /instances/{id}: name, tags and configuration, each if given."""
        instance = self._find(request)
        body = await read_body(request)
        name = str(body.get("name") or "").strip() or instance.name
        tags = _tags(body) if body.get("tags") is not None else instance.tags
        changes = _texts(_object(body, "configuration"))
        _check_room(name, tags, instance.configuration | changes)
        instance.name = strip_html(name)
        instance.tags = [strip_html(tag) for tag in tags]
        self._records.configure(instance, changes)
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
        body = await read_body(request)
        key = _key(request, instance)
        if "propertyValue" not in body:
            raise Refused(400, "Missing required field: propertyValue")
        changes = _texts({key: body["propertyValue"]})
        _check_room(instance.name, instance.tags, instance.configuration | changes)
        self._records.configure(instance, changes)
        return answer_json(_entry(instance, key), instance.id)

    async def docs(self, request: Request) -> Response:
        """GET /instances/{id}/docs: what the instance says of its own API."""
        instance = self._find(request)
        described = describe_api(
            instance.kind,
            host=request.headers["host"],
            scheme=request.url.scheme,
            resources=self._records.mappings.names(instance.id, instance.element),
        )
        return answer_json(described, instance.id)

    def _authorize(self, request: Request) -> None:
        self._access.authorize(request.headers.get("authorization", ""))

    def _find(self, request: Request) -> Instance:
        header = request.headers.get("authorization", "")
        if "id" not in request.path_params:
            instance = self._access.instance(header, even_disabled=True)
        else:
            self._authorize(request)
            id_ = request.path_params["id"]
            found = self._records.instances.get(id_)
            if "key" in request.path_params and found and found.kind is not _element(request):
                found = None
            if found is None:
                raise Refused(404, f"No element instance found with id {id_}")
            instance = found
        request.state.instance_id = instance.id
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
            "createdDate": instance.created_at,
            "externalAuthentication": "none",
            "user": USER,
            "maxCacheSize": 0,
            "cacheTimeToLive": 0,
            "cachingEnabled": False,
            "configuration": {key: _masked(instance, key) for key in instance.configuration},
            "tags": tags,
        }


def _element(request: Request) -> Element:
    key = request.path_params["key"]
    element = find_element(key)
    if element is None:
        raise Refused(404, f"No element found with key or id {key}")
    return element


def _wanted_element(request: Request, body: Mapping[str, Any]) -> Element:
    """Read which connector an instance is wanted of: by the path, the body, or both."""
    of_path = _element(request) if "key" in request.path_params else None
    named = _object(body, "element")
    wanted = str(named.get("key") or named.get("id") or (of_path.key if of_path else ""))
    if not wanted:
        raise Refused(400, "Missing required field: element.key")
    element = find_element(wanted)
    if element is None or (of_path is not None and of_path is not element):
        raise Refused(404, f"No element found with key or id {wanted}")
    return element


def _check_room(name: str, tags: Sequence[str], configuration: Mapping[str, str]) -> None:
    texts = (name, *tags, *configuration, *configuration.values())
    if sum(map(len, texts)) > CHARACTERS:
        raise Refused(429, f"An instance holds at most {CHARACTERS} characters")


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
    raise Refused(404, f"No configuration entry found with id {wanted}")


def _masked(instance: Instance, key: str) -> str:
    return MASK if key in instance.kind.secret else instance.configuration[key]


def _has_token(request: Request) -> bool:
    return "Element" in read_credentials(request.headers.get("authorization", ""))
