"""The form of a mapping: what somebody typed, and whether it can be meant. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.core.open_connectors.common_resources import (
    MESSAGE_LOG,
    Pairing,
    check_name,
    pair_fields,
)
from service.errors import UsageError

BLANK_ROWS = 5
"""That a new resource's form begins with, and that are added when they are too few."""

ROW = re.compile(r"ours\.([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class MappingRow:
    """A field of ours, and what fills it; either may be empty. proposed: by its name."""

    ours: str = ""
    theirs: str = ""
    proposed: bool = False


@dataclass(frozen=True, slots=True)
class MappingForm:
    """What somebody typed. new: the resource is to be made. vendor: whose rows are mapped."""

    name: str
    vendor: str
    new: bool
    rows: tuple[MappingRow, ...]

    @property
    def said(self) -> dict[str, str]:
        """What fills each field; "" leaves it empty."""
        return {each.ours: each.theirs for each in self.rows if each.ours}

    @property
    def command(self) -> str:
        """The command that does the same."""
        words = ["parley", "connector", "map", "set", self.name or "NAME"]
        words += ["--new"] if self.new else []
        words += ["--vendor", self.vendor] if self.vendor != MESSAGE_LOG else []
        for ours, theirs in self.said.items():
            words += ["--field", f"{ours}={theirs}"]
        return shlex.join([*words, *([] if self.new else ["--exact"])])

    def problems(self) -> dict[str, str]:
        """Say what can't be meant, by the name of its field."""
        found: dict[str, str] = {}
        for name, value in (("name", self.name), ("vendor", self.vendor)):
            try:
                check_name(value)
            except UsageError:
                found[name] = 'a name of letters, digits, "_" and "-", which begins with a letter'
        seen: set[str] = set()
        for place, each in enumerate(self.rows):
            if each.theirs and not each.ours:
                found[f"ours.{place}"] = f"say the name that {each.theirs} gets"
            elif each.ours and each.ours in seen:
                found[f"ours.{place}"] = f"{each.ours} is mapped twice"
            seen.add(each.ours)
        if not any(each.theirs for each in self.rows):
            found.setdefault("theirs.0", "say what fills at least one field")
        return found

    def proposed(self, known: Sequence[str]) -> MappingForm:
        """Fill what is empty by its name. known: the vendor's fields."""
        filled = {ours: theirs for ours, theirs in self.said.items() if theirs}
        pairings = pair_fields(self.said, filled, {}, known, propose=True)
        by_name = {each.ours: _row(each) for each in pairings}
        rows = tuple(by_name.get(each.ours, each) for each in self.rows)
        return MappingForm(self.name, self.vendor, self.new, rows)

    def longer(self) -> MappingForm:
        """Add rows to type into."""
        rows = (*self.rows, *(MappingRow() for _ in range(BLANK_ROWS)))
        return MappingForm(self.name, self.vendor, self.new, rows)


def new_form(vendor: str) -> MappingForm:
    """Begin the form of a resource that is to be made."""
    return MappingForm("", vendor, new=True, rows=()).longer()


def form_of_pairings(
    name: str, vendor: str, fields: Mapping[str, str], pairings: Sequence[Pairing]
) -> MappingForm:
    """Begin the form of a resource that there is. pairings: those that there are or may be."""
    by_name = {each.ours: _row(each) for each in pairings}
    rows = tuple(by_name.get(ours, MappingRow(ours)) for ours in fields)
    return MappingForm(name, vendor, new=False, rows=rows)


def read_mapping_form(form: Mapping[str, str]) -> MappingForm:
    """Read what was typed, right or wrong."""
    places = sorted(int(found[1]) for key in form if (found := ROW.fullmatch(key)))
    rows = (
        MappingRow(form[f"ours.{place}"].strip(), form.get(f"theirs.{place}", "").strip())
        for place in places
        if f"ours.{place}" in form
    )
    return MappingForm(
        name=form.get("name", "").strip(),
        vendor=form.get("vendor", "").strip() or MESSAGE_LOG,
        new=form.get("new", "") == "1",
        rows=tuple(rows),
    )


def _row(pairing: Pairing) -> MappingRow:
    return MappingRow(pairing.ours, pairing.theirs, proposed=pairing.proposed)
