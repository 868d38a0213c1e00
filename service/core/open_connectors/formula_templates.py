"""Formulas of the platform: templates with their variables, and instances of them. Pure.

Source: SAP Open Connectors' documentation of formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.core.open_connectors.api_schema import as_list, as_object
from service.errors import UsageError

OF_AN_INSTANCE = "elementInstance"
"""Type of a variable that is filled with an instance of a connector."""


@dataclass(frozen=True, slots=True)
class FormulaVariable:
    """What a template has to be told. kind: "elementInstance" or "value"."""

    key: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class FormulaTemplate:
    """A formula that can be put to work."""

    id: str
    name: str
    variables: tuple[FormulaVariable, ...]


@dataclass(frozen=True, slots=True)
class FormulaAtWork:
    """An instance of a template. reason: why it does not work, "" where none is told."""

    id: str
    name: str
    template_id: str
    template: str
    active: bool
    reason: str


def read_templates(answer: Any) -> list[FormulaTemplate]:
    """Read GET /formulas; what is no template is passed over."""
    return [
        FormulaTemplate(
            str(row["id"]), str(row.get("name") or ""), _variables(row.get("configuration"))
        )
        for row in map(as_object, as_list(answer))
        if row.get("id") is not None
    ]


def _variables(entries: Any) -> tuple[FormulaVariable, ...]:
    return tuple(
        FormulaVariable(
            str(each["key"]), str(each.get("name") or ""), str(each.get("type") or "value")
        )
        for each in map(as_object, as_list(entries))
        if each.get("key")
    )


def read_at_work(answer: Any) -> list[FormulaAtWork]:
    """Read a list of instances of formulas; what is none is passed over."""
    return [read_one(row) for row in map(as_object, as_list(answer)) if row.get("id") is not None]


def read_one(row: Mapping[str, Any]) -> FormulaAtWork:
    """Read an instance of a formula."""
    formula = as_object(row.get("formula"))
    return FormulaAtWork(
        id=str(row.get("id")),
        name=str(row.get("name") or ""),
        template_id=str(formula.get("id") or ""),
        template=str(formula.get("name") or ""),
        active=row.get("active") is not False,
        reason=str(row.get("reason") or ""),
    )


def choose_template(templates: Sequence[FormulaTemplate], wanted: str) -> FormulaTemplate:
    """Choose a template by its id or its name. Raises UsageError for none, and for several."""
    found = [each for each in templates if each.id == wanted]
    found = found or [each for each in templates if each.name.lower() == wanted.lower()]
    if not found:
        there = ", ".join(f"{each.id} ({each.name})" for each in templates) or "none"
        raise UsageError(f"TEMPLATE {wanted}: there is no such formula; there is {there}")
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise UsageError(f"TEMPLATE {wanted}: several are called so; say which id: {ids}")
    return found[0]


def read_values(said: Sequence[str]) -> dict[str, str]:
    """Read "key=value" each. Raises UsageError."""
    values: dict[str, str] = {}
    for each in said:
        key, equals, value = each.partition("=")
        if not equals or not key.strip() or not value:
            raise UsageError(f"--set {each}: say key=value")
        values[key.strip()] = value
    return values


def fill_template(
    template: FormulaTemplate, values: Mapping[str, str], instance: str
) -> dict[str, str]:
    """Fill a template's variables: those of an instance with ours, unless another is said.

    values: what was said, by key. Raises UsageError naming what is missing or not asked for, and
        where none of several, or nothing at all, is our instance.
    """
    keys = {each.key for each in template.variables}
    if unknown := [key for key in values if key not in keys]:
        there = ", ".join(sorted(keys)) or "none"
        raise UsageError(f"--set {unknown[0]}: the formula has no such variable; it has {there}")
    of_instance = [each.key for each in template.variables if each.kind == OF_AN_INSTANCE]
    if not of_instance:
        raise UsageError(f"TEMPLATE {template.name}: has no variable that an instance goes into")
    open_ = [key for key in of_instance if key not in values]
    if len(open_) > 1:
        raise UsageError(
            f"TEMPLATE {template.name}: several variables take an instance; say the others' with "
            f"--set key=ID, and leave out the one for instance {instance}: {', '.join(open_)}"
        )
    filled = {**values, **dict.fromkeys(open_, instance)}
    missing = [each.key for each in template.variables if each.key not in filled]
    if missing:
        raise UsageError(f"--set: the formula's variables {', '.join(missing)} have no value")
    if instance not in [filled[key] for key in of_instance]:
        raise UsageError(f"--set: no variable has our instance, {instance}")
    return {each.key: filled[each.key] for each in template.variables}
