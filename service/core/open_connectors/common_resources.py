"""Common resources: fields of one's own names, and how a vendor's rows are mapped to them. Pure.

Source: SAP Open Connectors' documentation of common resources (definitions and transformations).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.core.open_connectors.api_schema import as_list, as_object
from service.core.open_connectors.field_names import nearest_name
from service.core.open_connectors.wire import read_log
from service.errors import ConnectorUnreadable, UsageError

MESSAGE_LOG = "messages"
"""The vendor's resource that Parley reads replies and missed texts back from."""

NAME = re.compile(r"[A-Za-z][\w-]{0,99}")
"""A name that may become part of a path."""

LEVELS_OF_ROWS = 4

LOG_ROWS: Sequence[Mapping[str, Any]] = tuple(
    {
        "sid": "SM1",
        "from": "+15005550100",
        "to": "+15005550123",
        "body": "text",
        "direction": direction,
        "status": "delivered",
        "date_sent": "Mon, 04 May 2026 12:00:00 +0000",
        "num_media": "0",
    }
    for direction in ("inbound", "outbound-api")
)
"""A log in which nothing lacks that is read of one."""


@dataclass(frozen=True, slots=True)
class CommonResource:
    """A resource with names of one's own. fields: their kinds by name."""

    name: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResourceMapping:
    """How a resource is made of a vendor's rows.

    pairs: the vendor's field of each of ours. whole: the platform's own body, for what is not read
    here and has to stay.
    """

    name: str
    vendor: str
    pairs: Mapping[str, str]
    whole: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """What the platform is told."""
        fields = [{"path": ours, "vendorPath": theirs} for ours, theirs in self.pairs.items()]
        body: dict[str, Any] = {"vendorName": self.vendor, "fields": fields}
        if self.whole.get("configuration"):
            body["configuration"] = self.whole["configuration"]
        return body


@dataclass(frozen=True, slots=True)
class Pairing:
    """A field of ours and what it is filled with. proposed: by its name, and nobody said so."""

    ours: str
    theirs: str
    proposed: bool


def read_resources(answer: Any) -> list[CommonResource]:
    """Read GET /organizations/objects/definitions: definitions by name."""
    # Beside them stands whose they are, a text.
    return [
        read_resource(name, body)
        for name, body in sorted(as_object(answer).items())
        if isinstance(body, dict)
    ]


def read_resource(name: str, body: Any) -> CommonResource:
    """Read one definition."""
    fields = {str(each["path"]): str(each.get("type") or "") for each in _with_path(body)}
    return CommonResource(name, fields)


def read_mappings(answer: Any) -> list[ResourceMapping]:
    """Read GET .../transformations: transformations by the name of their resource."""
    found = as_object(answer).items()
    return [read_mapping(name, body) for name, body in sorted(found) if isinstance(body, dict)]


def read_mapping(name: str, body: Any) -> ResourceMapping:
    """Read one transformation; fields that nothing is mapped to are left out."""
    pairs = {
        str(each["path"]): str(each["vendorPath"])
        for each in _with_path(body)
        if each.get("vendorPath")
    }
    return ResourceMapping(name, str(as_object(body).get("vendorName") or ""), pairs, body)


def _with_path(body: Any) -> list[Mapping[str, Any]]:
    fields = as_list(as_object(body).get("fields"))
    return [each for each in fields if isinstance(each, dict) and each.get("path")]


def is_name(name: str) -> bool:
    """Tell whether a resource of this name can be worked on; the platform may have others."""
    return NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return the name of a resource. Raises UsageError for what could not stand in a path."""
    if not is_name(name):
        raise UsageError(f'"{name}": a resource has a name of letters, digits, "_" and "-"')
    return name


def read_pairs(said: Sequence[str]) -> dict[str, str]:
    """Read "ours=theirs" each; "ours=" leaves a field without a mapping. Raises UsageError."""
    pairs: dict[str, str] = {}
    for each in said:
        ours, equals, theirs = (part.strip() for part in each.partition("="))
        if not equals or not ours:
            raise UsageError(f"--field {each}: say ours=theirs, such as text=body")
        if ours in pairs:
            raise UsageError(f"--field {each}: {ours} is mapped twice")
        pairs[ours] = theirs
    return pairs


def pair_fields(
    fields: Iterable[str],
    said: Mapping[str, str],
    kept: Mapping[str, str],
    vendor: Sequence[str],
    *,
    propose: bool,
) -> list[Pairing]:
    """Choose what each field is filled with: as said, as it is mapped already, or by its name.

    fields: ours. vendor: the fields there are, as far as known. propose: whether names decide.
    """
    free = [each for each in vendor if each not in {**kept, **said}.values()]
    found = []
    for ours in dict.fromkeys((*fields, *said)):
        if ours in said or ours in kept:
            found.append(Pairing(ours, said.get(ours, kept.get(ours, "")), proposed=False))
        elif propose and (near := nearest_field(ours, free)):
            free.remove(near)
            found.append(Pairing(ours, near, proposed=True))
    return [each for each in found if each.theirs]


def nearest_field(name: str, vendor: Sequence[str]) -> str:
    """Find the vendor's field that a name of ours stands for; "" for none."""
    plain = {_plain(each): each for each in reversed(vendor)}
    return plain.get(_plain(name)) or plain.get(nearest_name(_plain(name), list(plain)), "")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def map_sample(row: Mapping[str, Any], pairs: Mapping[str, str]) -> dict[str, Any]:
    """Show what a mapping makes of a vendor's row; a field the row has not is null."""
    return {ours: _value(row, theirs) for ours, theirs in pairs.items()}


def _value(row: Any, path: str) -> Any:
    for step in path.split("."):
        row = as_object(row).get(step)
    return row


def log_lost_by(pairs: Mapping[str, str]) -> str:
    """Say what can't be read of a message log that is mapped so; "" when it stays readable."""
    try:
        read_log([map_sample(row, pairs) for row in LOG_ROWS])
    except ConnectorUnreadable as error:
        return error.message
    return ""


def fields_of_row(
    row: Mapping[str, Any], before: str = "", levels: int = LEVELS_OF_ROWS
) -> Iterator[str]:
    """Name the fields of a row, those of objects within it with dots."""
    for name, value in row.items():
        yield f"{before}{name}"
        if isinstance(value, dict) and levels > 1:
            yield from fields_of_row(value, f"{before}{name}.", levels - 1)
