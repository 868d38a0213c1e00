"""Mapping a common resource on our instance: worked out and shown first, then saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.connector import common_resources as at_platform
from service.connector.client import Connector
from service.core.open_connectors.api_reference import read_reference
from service.core.open_connectors.common_resources import (
    MESSAGE_LOG,
    CommonResource,
    Pairing,
    ResourceMapping,
    check_name,
    fields_of_row,
    log_lost_by,
    map_sample,
    nearest_field,
    pair_fields,
)
from service.core.open_connectors.hub_request import HUB
from service.errors import UsageError
from service.operate.advice import advising
from service.operate.common_resources import (
    ResourceList,
    element_of,
    find_resource,
    read_list,
    read_sample,
)
from service.operate.deployment import Deployment
from service.operate.instance import open_instance, open_instance_of

CHANGED = "`parley connector map list` shows what there is; somebody may have changed it meanwhile"


@dataclass(frozen=True, slots=True)
class MappingDraft:
    """A mapping that is not saved yet.

    makes: the resource of the organization that it makes as well, None for none. replaces: it
    takes the place of one. pairings: what fills each field. unmapped: fields that stay empty.
    mapped: the vendor's first row as the mapping makes it; None without one, for the reason in
    why_no_row. unknown: fields of the vendor's that are not known there, each with the name that
    may be meant, "" for none. warning: what becomes of the message log, "" for nothing.
    """

    instance: str
    mapping: ResourceMapping
    makes: CommonResource | None
    replaces: bool
    pairings: tuple[Pairing, ...]
    unmapped: tuple[str, ...]
    mapped: Mapping[str, Any] | None = field(repr=False)
    why_no_row: str
    unknown: Mapping[str, str]
    warning: str


@dataclass(frozen=True, slots=True)
class VendorRows:
    """The vendor's rows. known: their fields, as far as a row and the description tell them."""

    name: str
    row: Mapping[str, Any] | None = field(repr=False)
    why_no_row: str
    known: Sequence[str]


@dataclass(frozen=True, slots=True)
class MappingSketch:
    """What somebody begins to map with, before they have said anything.

    fields: ours with their kinds; none of a resource that is to be made. pairings: what they are
    filled with already, and what is proposed.
    """

    fields: Mapping[str, str]
    pairings: tuple[Pairing, ...]
    rows: VendorRows


class ResourceExists(UsageError):
    """A resource that was to be made is there."""


class NothingMapped(UsageError):
    """Nobody said what is to be mapped, and no names match."""


async def sketch(
    deployment: Deployment, name: str | None, *, vendor: str | None = None
) -> MappingSketch:
    """Look at what can be mapped to what; changes nothing.

    name: of a resource; None for one that is to be made. vendor: as `draft` takes it.
    Raises UsageError for a resource there is none of, and what `draft` raises of others.
    """
    async with open_instance_of(deployment) as (connector, instance, settings):
        there = await read_list(connector, instance, element_of(settings))
        resource = None
        if name is not None:
            resource = await find_resource(connector, there, check_name(name))
        fields = {} if name is None else _fields(resource, there, name, {}, new=False)
        own = there.own_mapping(name) if name is not None else None
        rows = await _vendor(connector, there, vendor or _usual_vendor(own))
    pairings = pair_fields(fields, {}, _kept(own, rows), rows.known, propose=True)
    return MappingSketch(fields, tuple(pairings), rows)


async def draft(
    deployment: Deployment,
    name: str,
    said: Mapping[str, str],
    *,
    vendor: str | None = None,
    new: bool = False,
    propose: bool = True,
) -> MappingDraft:
    """Work out a mapping of a resource to the vendor's rows; changes nothing.

    said: the vendor's field of each of ours, "" to leave it empty. vendor: whose rows; None for
        those it is mapped to already, else the message log. new: make the resource. propose:
        whether fields that nobody said, and that are not mapped yet, are matched by their names.
    Raises UsageError for a resource or a field there is none of, and for a mapping of nothing;
        SettingsError without an instance, ConnectorError, StoreUnavailable, StoreMismatch.
    """
    check_name(name)
    async with open_instance_of(deployment) as (connector, instance, settings):
        there = await read_list(connector, instance, element_of(settings))
        resource = await find_resource(connector, there, name)
        fields = _fields(resource, there, name, said, new=new)
        own = there.own_mapping(name)
        rows = await _vendor(connector, there, vendor or _usual_vendor(own))
    pairings = pair_fields(fields, said, _kept(own, rows), rows.known, propose=propose)
    if not pairings:
        has = ", ".join(rows.known) or "fields that are not known"
        raise NothingMapped(f"{name}: say what to map, --field ours=theirs; {rows.name} has {has}")
    pairs = {each.ours: each.theirs for each in pairings}
    return MappingDraft(
        instance=there.instance,
        mapping=ResourceMapping(name, rows.name, pairs, own.whole if own else {}),
        makes=CommonResource(name, fields) if resource is None else None,
        replaces=own is not None,
        pairings=tuple(pairings),
        unmapped=tuple(each for each in fields if each not in pairs),
        mapped=None if rows.row is None else map_sample(rows.row, pairs),
        why_no_row=rows.why_no_row,
        unknown={
            theirs: nearest_field(theirs, rows.known)
            for theirs in pairs.values()
            if rows.known and theirs not in rows.known
        },
        warning=_warning(pairs) if name == MESSAGE_LOG else "",
    )


async def save(deployment: Deployment, drafted: MappingDraft) -> None:
    """Make the resource where it is new, and map it for our instance.

    Raises ConnectorError, StoreUnavailable, StoreMismatch, SettingsError.
    """
    async with open_instance(deployment) as (connector, _):
        with advising(CHANGED):
            if drafted.makes is not None:
                await at_platform.define(connector, drafted.makes)
            new = not drafted.replaces
            await at_platform.put_mapping(connector, drafted.instance, drafted.mapping, new=new)


def _fields(
    resource: CommonResource | None,
    there: ResourceList,
    name: str,
    said: Mapping[str, str],
    *,
    new: bool,
) -> Mapping[str, str]:
    """Return the fields of a resource with their kinds: those it has, or those it is made with."""
    if resource is not None and new:
        raise ResourceExists(f"{name}: there is such a common resource already; leave --new out")
    if resource is not None:
        if unknown := [each for each in said if each not in resource.fields]:
            has = ", ".join(resource.fields) or "none"
            raise UsageError(f"--field {unknown[0]}: {name} has no such field; it has {has}")
        return resource.fields
    if not new:
        names = ", ".join(each.name for each in there.resources) or "none"
        raise UsageError(
            f"{name}: there is no such common resource; there is {names}. "
            "--new with --field ours=theirs makes it"
        )
    if not said:
        raise NothingMapped("--new: say the fields of the resource, --field ours=theirs")
    return dict.fromkeys(said, "string")


def _usual_vendor(own: ResourceMapping | None) -> str:
    return (own.vendor if own else "") or MESSAGE_LOG


def _kept(own: ResourceMapping | None, rows: VendorRows) -> Mapping[str, str]:
    return own.pairs if own is not None and own.vendor == rows.name else {}


async def _vendor(connector: Connector, there: ResourceList, name: str) -> VendorRows:
    check_name(name)
    if there.mapping(name) is not None:
        # What is answered, and described, under this name are the mapped rows.
        return VendorRows(name, None, f"{name} is mapped itself, and hides the vendor's rows", ())
    row, why = await read_sample(connector, name)
    reference = read_reference(await connector.describe_instance(there.instance))
    paths = (f"GET /{name}", f"GET {HUB}/{name}")
    listed = [each for path in paths for each in (reference.find(path) if reference else ())]
    models = [answer.model for each in listed for answer in each.answers if answer.model]
    described = [each.path for model in models for each in model.fields if "[]" not in each.path]
    return VendorRows(name, row, why, tuple(dict.fromkeys((*described, *fields_of_row(row or {})))))


def _warning(pairs: Mapping[str, str]) -> str:
    log = f"`{MESSAGE_LOG}` is the message log itself, which Parley reads"
    lost = log_lost_by(pairs)
    if not lost:
        return (
            f"{log}; with this mapping it stays readable, as every field that is read has its name"
        )
    return (
        f"{log}. With this mapping {lost}. Texts that came while Parley was down are then not read "
        "back, and a reply in doubt is not found there: IN_DOUBT decides. Use another name"
    )
