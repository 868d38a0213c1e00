"""Which formulas of the platform use an instance: they name it by its id, and stop without it."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from service.connector.client import Connector
from service.errors import ConnectorError

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
