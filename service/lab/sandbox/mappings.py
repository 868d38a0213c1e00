"""Common resources: names of fields of one's own, and how a vendor's rows are mapped to them.

A mapping of one instance goes before that of its connector. Kept in memory, bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VENDOR_ROWS = "messages"
"""The one resource of the vendor's that has rows to map: the message log."""

KEPT = 200
"""Definitions, and as many mappings."""

Level = str | int
"""Whose it is: "organization", a connector's key, or an instance's id."""

Body = dict[str, Any]


class Full(Exception):
    """There are as many as the sandbox keeps."""


class Mappings:
    """Definitions by level and name, and transformations by level and name, as they were sent."""

    def __init__(self) -> None:
        self.definitions: dict[tuple[Level, str], Body] = {}
        self.transformations: dict[tuple[Level, str], Body] = {}

    def put(self, kept: dict[tuple[Level, str], Body], level: Level, name: str, body: Body) -> None:
        """Keep a definition or a transformation; raises Full."""
        if len(kept) >= KEPT and (level, name) not in kept:
            raise Full
        kept[level, name] = body

    def forget(self, instance: int) -> None:
        """Forget what was for an instance that is no more."""
        for kept in (self.definitions, self.transformations):
            for key in [key for key in kept if key[0] == instance]:
                del kept[key]

    def find(self, instance: int, element: str, name: str) -> Body | None:
        """Find the mapping that holds for an instance of a connector, None without one."""
        own = self.transformations.get((instance, name))
        return own or self.transformations.get((element, name))

    def names(self, instance: int, element: str) -> dict[str, list[str]]:
        """Tell the names that are mapped for an instance, each with its fields."""
        kept = [name for level, name in self.transformations if level in {instance, element}]
        return {
            name: [
                str(field["path"]) for field in (self.find(instance, element, name) or {})["fields"]
            ]
            for name in kept
        }


def map_row(row: Mapping[str, Any], transformation: Mapping[str, Any]) -> Body:
    """Give a vendor's row the fields of a transformation; what it does not name is left out.

    With `passThrough` from the vendor, as it is called there, the rest comes along.
    """
    mapped: Body = dict(row) if _passes(transformation) else {}
    for each in transformation["fields"]:
        if each.get("vendorPath"):
            _write(mapped, str(each["path"]), _read(row, str(each["vendorPath"])))
    return mapped


def _passes(transformation: Mapping[str, Any]) -> bool:
    configuration = transformation.get("configuration")
    for each in configuration if isinstance(configuration, list) else ():
        if isinstance(each, dict) and each.get("type") == "passThrough":
            properties = each.get("properties")
            return isinstance(properties, dict) and properties.get("fromVendor") is True
    return False


def _read(row: Any, path: str) -> Any:
    for step in path.split("."):
        row = row.get(step) if isinstance(row, dict) else None
    return row


def _write(row: Body, path: str, value: Any) -> None:
    *steps, last = path.split(".")
    for step in steps:
        inner = row.get(step)
        if not isinstance(inner, dict):
            inner = row[step] = {}
        row = inner
    row[last] = value
