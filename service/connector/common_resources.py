"""Common resources at the platform: those of the organization, and what is mapped for an instance.

Whatever there is none of is 404 there, and nothing here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from service.connector.client import Connector
from service.core.open_connectors.common_resources import (
    CommonResource,
    ResourceMapping,
    read_mappings,
    read_resource,
    read_resources,
)
from service.core.open_connectors.hub_request import HUB, read_body
from service.errors import ConnectorFailed, ConnectorGone


async def resources_of(connector: Connector) -> list[CommonResource]:
    """GET /organizations/objects/definitions."""
    return read_resources(await _found(connector, "/organizations/objects/definitions"))


async def own_resource(connector: Connector, instance: str, name: str) -> CommonResource | None:
    """GET /instances/{id}/objects/{name}/definitions: fields that one instance has of its own."""
    path = f"/instances/{quote(instance, safe='')}/objects/{quote(name, safe='')}/definitions"
    found = await _found(connector, path)
    return read_resource(name, found) if found else None


async def mappings_of(connector: Connector, instance: str) -> list[ResourceMapping]:
    """GET /instances/{id}/transformations: what is mapped for an instance alone."""
    return read_mappings(await _found(connector, _instance(instance)))


async def mappings_for_all(connector: Connector, element: str) -> list[ResourceMapping]:
    """GET /organizations/elements/{key}/transformations: for every instance of a connector."""
    path = f"/organizations/elements/{quote(element, safe='')}/transformations"
    return read_mappings(await _found(connector, path))


async def define(connector: Connector, resource: CommonResource) -> None:
    """POST /organizations/objects/{name}/definitions."""
    fields = [{"path": path, "type": kind} for path, kind in resource.fields.items()]
    path = f"/organizations/objects/{quote(resource.name, safe='')}/definitions"
    await connector.call_platform("POST", path, {"fields": fields})


async def undefine(connector: Connector, name: str) -> None:
    """DELETE /organizations/objects/{name}/definitions."""
    path = f"/organizations/objects/{quote(name, safe='')}/definitions"
    await connector.call_platform("DELETE", path)


async def put_mapping(
    connector: Connector, instance: str, mapping: ResourceMapping, *, new: bool
) -> None:
    """POST, or PUT in the place of another, /instances/{id}/transformations/{name}."""
    path = f"{_instance(instance)}/{quote(mapping.name, safe='')}"
    await connector.call_platform("POST" if new else "PUT", path, mapping.body)


async def remove_mapping(connector: Connector, instance: str, name: str) -> None:
    """DELETE /instances/{id}/transformations/{name}."""
    await connector.call_platform("DELETE", f"{_instance(instance)}/{quote(name, safe='')}")


async def first_row(connector: Connector, name: str) -> dict[str, Any] | None:
    """GET a resource's first row with the instance's token; None where it has none.

    Raises ConnectorError, such as ConnectorGone for a resource that the instance has not.
    """
    path = f"{HUB}/{quote(name, safe='')}?page=1&pageSize=1"
    answer, error = await connector.exchange("GET", path)
    if error is not None:
        raise error
    rows = read_body(answer.body)
    if isinstance(rows, dict):
        rows = rows.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConnectorFailed(f"{name} was answered with something that is no list of rows")
    return dict(connector.without_secrets(rows[0])) if rows else None


def _instance(instance: str) -> str:
    return f"/instances/{quote(instance, safe='')}/transformations"


async def _found(connector: Connector, path: str) -> Any:
    try:
        return await connector.call_platform("GET", path)
    except ConnectorGone:
        return None
