"""Formulas of Open Connectors on our instance: which there are, put one to work, end it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.connector import formulas as at_platform
from service.core.open_connectors.formula_templates import (
    FormulaAtWork,
    FormulaTemplate,
    choose_template,
    fill_template,
)
from service.errors import ConnectorFailed, UsageError
from service.operate.advice import advising
from service.operate.deployment import Deployment
from service.operate.instance import open_instance


@dataclass(frozen=True, slots=True)
class FormulaList:
    """What there is. instance: ours. at_work: formulas that use it."""

    instance: str
    templates: tuple[FormulaTemplate, ...]
    at_work: tuple[FormulaAtWork, ...]


async def list_formulas(deployment: Deployment) -> FormulaList:
    """List templates, and what is at work on our instance.

    Raises SettingsError without an instance, ConnectorError, StoreUnavailable, StoreMismatch; so
        do the others here.
    """
    async with open_instance(deployment) as (connector, instance):
        return FormulaList(
            instance.id,
            tuple(await at_platform.templates_of(connector)),
            tuple(await at_platform.at_work_on(connector, instance.id)),
        )


async def create(
    deployment: Deployment, wanted: str, values: Mapping[str, str], name: str | None
) -> FormulaAtWork:
    """Put a formula to work on our instance.

    wanted: the template's id or name. values: of its variables, by key; ours is filled in. name:
        of the new instance of it, None for the template's and our instance's.
    Raises UsageError for a template there is none of, or variables that are not filled.
    """
    async with open_instance(deployment) as (connector, instance):
        template = choose_template(await at_platform.templates_of(connector), wanted)
        configuration = fill_template(template, values, instance.id)
        called = name or f"{template.name} of {instance.name or instance.id}"
        with advising("look at the values of its variables; the template is in Open Connectors"):
            return await at_platform.put_to_work(connector, template.id, called, configuration)


async def find(deployment: Deployment, formula: str) -> FormulaAtWork:
    """Find a formula that uses our instance, by its id. Raises UsageError for any other."""
    at_work = (await list_formulas(deployment)).at_work
    found = next((each for each in at_work if each.id == formula), None)
    if found is None:
        there = ", ".join(f"{each.id} ({each.name})" for each in at_work) or "none"
        raise UsageError(f"ID {formula}: no such formula uses our instance; there is {there}")
    if not found.template_id:
        raise ConnectorFailed(f"formula {formula} is listed without its template")
    return found


async def remove(deployment: Deployment, formula: FormulaAtWork) -> None:
    """End a formula at work; its template stays."""
    async with open_instance(deployment) as (connector, _):
        with advising(
            "`parley connector formula list` shows what there is; it may be gone already"
        ):
            await at_platform.end_work(connector, formula.template_id, formula.id)
