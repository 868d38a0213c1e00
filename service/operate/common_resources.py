"""Common resources of the organization, and what is mapped on our instance: list, show, remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from service.connector import common_resources as at_platform
from service.connector.client import Connector
from service.core.open_connectors.common_resources import (
    CommonResource,
    ResourceMapping,
    check_name,
)
from service.errors import ConnectorGone, UsageError
from service.model import Instance
from service.operate.advice import advising
from service.operate.deployment import Deployment
from service.operate.files import wanted_instance
from service.operate.instance import open_instance_of
from service.settings.table import Settings


@dataclass(frozen=True, slots=True)
class ResourceList:
    """What there is. own: mapped for our instance. for_all: for every instance of its connector."""

    instance: str
    resources: tuple[CommonResource, ...]
    own: tuple[ResourceMapping, ...]
    for_all: tuple[ResourceMapping, ...]

    def own_mapping(self, name: str) -> ResourceMapping | None:
        """Return what is mapped for our instance alone, under a name."""
        return next((each for each in self.own if each.name == name), None)

    def mapping(self, name: str) -> ResourceMapping | None:
        """Return the mapping that holds for our instance: its own goes before its connector's."""
        found = (each for each in (*self.own, *self.for_all) if each.name == name)
        return next(found, None)


@dataclass(frozen=True, slots=True)
class ShownResource:
    """One resource. mapping: the one that holds for our instance. row: its first, as answered.

    for_all: the mapping is that of every instance. why_no_row: where there is none.
    """

    resource: CommonResource
    mapping: ResourceMapping | None
    for_all: bool
    row: Mapping[str, Any] | None = field(repr=False)
    why_no_row: str


async def list_resources(deployment: Deployment) -> ResourceList:
    """List the organization's common resources, and what is mapped on our instance.

    Raises SettingsError without an instance, ConnectorError, StoreUnavailable, StoreMismatch; so
        do the others here.
    """
    async with open_instance_of(deployment) as (connector, instance, settings):
        return await read_list(connector, instance, element_of(settings))


async def show(deployment: Deployment, name: str) -> ShownResource:
    """Show one resource, how it is mapped, and its first row. Raises UsageError for none."""
    check_name(name)
    async with open_instance_of(deployment) as (connector, instance, settings):
        there = await read_list(connector, instance, element_of(settings))
        resource = await find_resource(connector, there, name)
        if resource is None:
            names = ", ".join(each.name for each in there.resources) or "none"
            raise UsageError(f"{name}: there is no such common resource; there is {names}")
        mapping = there.mapping(name)
        row, why = None, "it is not mapped on our instance"
        if mapping is not None:
            row, why = await read_sample(connector, name)
        for_all = mapping is not None and there.own_mapping(name) is None
        return ShownResource(resource, mapping, for_all, row, why)


async def remove(deployment: Deployment, name: str, *, definition: bool = False) -> None:
    """Remove what is mapped for our instance, and with `definition` the organization's resource.

    Raises UsageError where nothing is mapped for our instance alone.
    """
    check_name(name)
    async with open_instance_of(deployment) as (connector, instance, settings):
        there = await read_list(connector, instance, element_of(settings))
        own = there.own_mapping(name)
        if own is None and not definition:
            raise UsageError(_not_ours(there, name, element_of(settings)))
        if definition and name not in {each.name for each in there.resources}:
            raise UsageError(f"{name}: the organization has no such common resource")
        with advising("look whether it is used elsewhere, or gone already"):
            if own is not None:
                await at_platform.remove_mapping(connector, instance.id, name)
            if definition:
                await at_platform.undefine(connector, name)


def _not_ours(there: ResourceList, name: str, element: str) -> str:
    if there.mapping(name) is not None:
        return f"{name}: is mapped for every instance of {element}: remove it in Open Connectors"
    names = ", ".join(each.name for each in there.own) or "nothing"
    return f"{name}: is not mapped on our instance; {names} is"


def element_of(settings: Settings) -> str:
    """Return the key of our instance's connector, by its file: it may be an organization's copy."""
    return str(wanted_instance(settings).body["element"]["key"])


async def read_list(connector: Connector, instance: Instance, element: str) -> ResourceList:
    """Read what there is. element: key of the instance's connector."""
    return ResourceList(
        instance.id,
        tuple(await at_platform.resources_of(connector)),
        tuple(await at_platform.mappings_of(connector, instance.id)),
        tuple(await at_platform.mappings_for_all(connector, element)),
    )


async def find_resource(
    connector: Connector, there: ResourceList, name: str
) -> CommonResource | None:
    """Find a resource's fields: the organization's, those of our instance, and what is mapped."""
    ours = next((each for each in there.resources if each.name == name), None)
    more = await at_platform.own_resource(connector, there.instance, name)
    mapping = there.mapping(name)
    if ours is None and more is None and mapping is None:
        return None
    fields: dict[str, str] = dict.fromkeys(mapping.pairs if mapping else (), "")
    for each in (ours, more):
        fields |= each.fields if each else {}
    return replace(ours or more or CommonResource(name, {}), fields=fields)


async def read_sample(connector: Connector, name: str) -> tuple[Mapping[str, Any] | None, str]:
    """Read the first row of a resource of our instance; None with the reason for none."""
    try:
        row = await at_platform.first_row(connector, name)
    except ConnectorGone as error:
        return None, f"the instance has no {name}: {error}"
    return row, "" if row is not None else f"{name} has no rows yet"
