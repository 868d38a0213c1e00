"""Formulas of the platform: which use an instance, templates, and putting one to work.

They name an instance by its id, and stop without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import structlog

from service.connector.client import Connector
from service.core.open_connectors.api_schema import as_object
from service.core.open_connectors.formula_templates import (
    FormulaAtWork,
    FormulaTemplate,
    read_at_work,
    read_one,
    read_templates,
)
from service.errors import ConnectorError, ConnectorFailed, ConnectorGone

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Formulas:
    """What is known of an instance's formulas.

    instance: its id, "" without an instance. names: None when they could not be found out.
    reason: why they could not.
    """

    instance: str
    names: tuple[str, ...] | None = ()
    reason: str = ""


async def find_formulas(connector: Connector, instance: str) -> Formulas:
    """Ask which formulas use an instance; a connector that does not tell is no error here."""
    try:
        return Formulas(instance, tuple(await connector.formulas_using(instance)))
    except ConnectorError as error:
        return Formulas(instance, None, str(error))


async def warn_of_formulas(connector: Connector, instance: str, successor: str) -> None:
    """Log which formulas use an instance that another one takes the place of."""
    found = await find_formulas(connector, instance)
    if found.names is None:
        log.warning(
            "whether formulas use the instance that is replaced could not be found out",
            instance=instance,
            successor=successor,
            error=found.reason,
        )
    elif found.names:
        log.warning(
            "formulas use the instance that is replaced; give them its successor",
            instance=instance,
            successor=successor,
            formulas=list(found.names),
        )


async def templates_of(connector: Connector) -> list[FormulaTemplate]:
    """GET /formulas."""
    return read_templates(await _listed(connector, "/formulas"))


async def at_work_on(connector: Connector, instance: str) -> list[FormulaAtWork]:
    """GET /formulas/instances?elementInstanceId=...: the formulas that use an instance."""
    query = urlencode({"elementInstanceId": instance})
    return read_at_work(await _listed(connector, f"/formulas/instances?{query}"))


async def put_to_work(
    connector: Connector, template: str, name: str, configuration: Mapping[str, str]
) -> FormulaAtWork:
    """POST /formulas/{id}/instances."""
    body = {"name": name, "configuration": dict(configuration)}
    made = as_object(await connector.call_platform("POST", _instances(template), body))
    if made.get("id") is None:
        raise ConnectorFailed(f"POST {_instances(template)} was answered without an id")
    return read_one(made)


async def end_work(connector: Connector, template: str, formula: str) -> None:
    """DELETE /formulas/{id}/instances/{id}."""
    await connector.call_platform("DELETE", f"{_instances(template)}/{quote(formula, safe='')}")


async def _listed(connector: Connector, path: str) -> Any:
    """Ask for a list; the platform may answer 404 for an empty one."""
    try:
        return await connector.call_platform("GET", path)
    except ConnectorGone:
        return []


def _instances(template: str) -> str:
    return f"/formulas/{quote(template, safe='')}/instances"
