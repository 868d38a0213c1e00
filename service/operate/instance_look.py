"""How our instance stands: as this Redis keeps it, as the connector has it, and what differs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from service.connector.formulas import Formulas
from service.connector.provisioning import Provisioner
from service.core.open_connectors.elements import element_of
from service.core.open_connectors.plan import Change, Plan
from service.core.open_connectors.wire import InstanceAnswer
from service.core.sealing import Sealer
from service.errors import ConnectorError, SettingsError
from service.operate.deployment import Deployment, open_store
from service.operate.instance import open_provisioner
from service.store.instances import LastLook, last_look
from service.store.setups import Setups

__all__ = ["EntryLook", "InstanceLook", "LastLook", "last_look", "look_at_instance"]


@dataclass(frozen=True, slots=True)
class EntryLook:
    """One entry of the configuration, as it may be shown.

    value: at the connector; "" where it is not there. wanted: what it is to be, "" where it is so.
    """

    name: str
    value: str
    wanted: str


@dataclass(frozen=True, slots=True)
class InstanceLook:
    """How our instance stands; without its token.

    id: "" without an instance. name, tags: at the connector, else as kept. element: "" where it is
        not told. callback_url: as kept.
    set_up: False while credentials are missing, of which `problem` tells; nothing was asked then.
    there: the connector has it. entries: its configuration, what differs first.
    plan: what is to do. formulas: those that use it. problem: why the connector, or the sealed
        token, says nothing; then `entries`, `plan` and `formulas` are empty.
    """

    id: str
    name: str = ""
    tags: tuple[str, ...] = ()
    callback_url: str = ""
    set_up: bool = True
    element: str = ""
    there: bool = False
    disabled: bool = False
    entries: tuple[EntryLook, ...] = ()
    plan: Plan = field(default_factory=Plan)
    formulas: Formulas = field(default_factory=lambda: Formulas(""))
    problem: ConnectorError | SettingsError | None = None

    @property
    def repairs(self) -> tuple[str, ...]:
        """What is to do, a line each."""
        return tuple(self.plan.lines())


async def look_at_instance(deployment: Deployment) -> InstanceLook:
    """Look at our instance, here and at the connector; changes nothing.

    Raises StoreUnavailable, StoreMismatch. What else fails is in the answer.
    """
    try:
        async with open_provisioner(deployment) as provisioner:
            return await _look(provisioner)
    except SettingsError as error:
        return InstanceLook("", set_up=await _is_set_up(deployment), problem=error)


async def _is_set_up(deployment: Deployment) -> bool:
    if deployment.given is None:
        return True
    async with open_store(deployment) as (client, _):
        try:
            kept = await Setups(client, Sealer(deployment.settings.secret_keys)).current()
        except SettingsError:  # No key opens it: it is there.
            return True
    return not deployment.given.missing(kept.values if kept else {})


async def _look(provisioner: Provisioner) -> InstanceLook:
    kept = await provisioner.stored()
    look = InstanceLook("")
    if kept is not None:
        look = InstanceLook(kept.id, kept.name, kept.tags, kept.callback_url)
    try:
        # All begin at once and end before this does: the clients they use are closed then.
        async with asyncio.TaskGroup() as tasks:
            current = tasks.create_task(provisioner.current())
            plan = tasks.create_task(provisioner.plan())
            formulas = tasks.create_task(provisioner.formulas())
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        if isinstance(first, ConnectorError):
            return replace(look, problem=first)
        raise first from None
    look = replace(look, plan=plan.result(), formulas=formulas.result())
    _, found = current.result()
    return look if found is None else _at_the_connector(look, found)


def _at_the_connector(look: InstanceLook, found: InstanceAnswer) -> InstanceLook:
    return replace(
        look,
        name=found.name,
        tags=found.tags,
        element=found.element,
        there=True,
        disabled=found.disabled,
        entries=_entries(found, look.plan),
    )


def _entries(found: InstanceAnswer, plan: Plan) -> tuple[EntryLook, ...]:
    wanted = {
        change.entry: _unquoted(change)
        for step in plan.steps
        if step.instance == found.id
        for change in step.changes
    }
    told = {"name": found.name, "tags": ", ".join(found.tags), **found.configuration}
    names = dict.fromkeys((*wanted, *found.configuration))
    looks = [EntryLook(each, told.get(each, ""), wanted.get(each, "")) for each in names]
    ours = element_of({"element": {"key": found.element}}).required
    # What differs, what Parley fills in, what the platform adds of its own.
    return tuple(sorted(looks, key=lambda look: (not look.wanted, look.name not in ours)))


def _unquoted(change: Change) -> str:
    """Return what an entry is to be, without the quotes that a plan's line needs."""
    new = change.new
    return new[1:-1] if len(new) > 1 and new[0] == new[-1] and new[0] in "\"'" else new
