"""Runs what a command asks of the deployment that the settings describe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from service.operate.deployment import Deployment
    from service.settings.table import Settings

Result = TypeVar("Result")


def run_on_deployment(
    act: Callable[[Deployment], Coroutine[Any, Any, Result]], settings: Settings | None = None
) -> Result:
    """Run one of `operate`'s functions and return what it returns.

    settings: those loaded already, None to load them. Raises SettingsError, StoreUnavailable,
        StoreMismatch, and what `act` raises.
    """
    from service.settings.loading import load_settings
    from service.wiring.deployment import deployment_of

    with deployment_of(settings or load_settings()) as deployment:
        return asyncio.run(act(deployment))
