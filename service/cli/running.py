"""Runs what a command asks of the deployment that the settings describe, and notes what it did."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from service.errors import SettingsError

if TYPE_CHECKING:
    from service.operate.audit import Noting
    from service.operate.deployment import Deployment
    from service.settings.setup import Given
    from service.settings.table import Settings

Result = TypeVar("Result")

AnyRedis = Any
"""A `service.store.client.Redis`; commands know no part of the service."""


def run_on_deployment(
    act: Callable[[Deployment], Coroutine[Any, Any, Result]], given: Given | None = None
) -> Result:
    """Run one of `operate`'s functions and return what it returns.

    given: the settings loaded already, None to load them. Raises SettingsError, StoreUnavailable,
        StoreMismatch, and what `act` raises.
    """
    from service.settings.setup import load_given
    from service.wiring.deployment import deployment_of

    with deployment_of(given or load_given()) as deployment:
        return asyncio.run(act(deployment))


def run_on_store(
    act: Callable[[AnyRedis], Coroutine[Any, Any, Result]], given: Given | None = None
) -> Result:
    """Run what asks nothing but the deployment's Redis; raises as `run_on_deployment`."""
    from service.operate.deployment import open_store

    async def opened(deployment: Deployment) -> Result:
        async with open_store(deployment) as (client, _):
            return await act(client)

    return run_on_deployment(opened, given)


def settings_in_use() -> Settings:
    """Return whole settings; Redis is asked only where they say less than it takes.

    Raises as `run_on_deployment`.
    """
    from service.operate.deployment import open_store
    from service.settings.loading import load_settings
    from service.settings.setup import load_given

    try:
        given = load_given()
    except SettingsError:
        # Redis can't be asked, so whatever is missing is told at once.
        load_settings()
        raise
    settings = given.partial()
    if settings.is_set_up:
        return settings

    async def completed(deployment: Deployment) -> Settings:
        async with open_store(deployment) as (client, _):
            return await deployment.settings_in_use(client)

    return run_on_deployment(completed, given)


@asynccontextmanager
async def acting(deployment: Deployment, what: str, about: str = "") -> AsyncIterator[Noting]:
    """Have what is done inside noted in the audit trail, however it ends.

    what: the command without `parley`. Raises StoreUnavailable, StoreMismatch, before anything is
        done.
    """
    from service.operate.deployment import open_store

    async with open_store(deployment) as (client, _), noting_in(client, what, about) as act:
        yield act


def noting_in(client: AnyRedis, what: str, about: str) -> AbstractAsyncContextManager[Noting]:
    """Do the same in a Redis that is open already."""
    from service.operate.audit import noted

    return noted(client, who=person(), via="command", what=what, about=about)


def person() -> str:
    """Name whoever runs this command: "user@host", by the operating system."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # A container's user may have no name.
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
