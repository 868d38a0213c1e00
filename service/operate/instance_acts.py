"""What an operator does to our instance: by the names of the commands that do the same."""

from __future__ import annotations

from typing import Literal, get_args

from service.connector.adopting import Candidate, Takeover
from service.connector.provisioning import Provisioner
from service.core.open_connectors.plan import Plan
from service.operate.deployment import Deployment
from service.operate.instance import open_provisioner, require_seen

ActName = Literal["apply", "enable", "disable", "rotate", "remove"]

ACTS: tuple[ActName, ...] = get_args(ActName)


async def act_on_instance(deployment: Deployment, act: ActName, seen: str) -> str:
    """Do it to the instance that somebody has seen; return the id of the one it was done to.

    seen: its id, "" where there was none. Raises UsageError when another one is in use by now,
        SetupChanged when the setup is, SettingsError, ConnectorError, StoreUnavailable,
        StoreMismatch, LockLost.
    """
    async with open_provisioner(deployment, seen) as provisioner:
        require_seen(await provisioner.stored(), seen)
        return await _do(provisioner, act)


async def _do(provisioner: Provisioner, act: ActName) -> str:
    match act:
        case "apply":
            return (await provisioner.ensure()).id
        case "enable" | "disable":
            return await provisioner.switch(on=act == "enable")
        case "rotate":
            return (await provisioner.replace()).id
        case "remove":
            return await provisioner.remove()


async def list_candidates(deployment: Deployment) -> list[Candidate]:
    """List the instances of our connector, ours among them. Raises as `act_on_instance`."""
    async with open_provisioner(deployment) as provisioner:
        return await provisioner.candidates()


async def plan_take(deployment: Deployment, id_: str) -> Plan:
    """Plan to use an instance that was made elsewhere. Raises UsageError; as `act_on_instance`."""
    async with open_provisioner(deployment) as provisioner:
        return await provisioner.plan_take(id_)


async def take(deployment: Deployment, id_: str) -> Takeover:
    """Use an instance that was made elsewhere. Raises UsageError; as `act_on_instance`."""
    async with open_provisioner(deployment) as provisioner:
        return await provisioner.take(id_)


async def token_of(deployment: Deployment) -> tuple[str, str]:
    """Return our instance's id and its token, in the clear; whoever asks is to be noted first.

    Raises SettingsError without an instance; as `act_on_instance`.
    """
    async with open_provisioner(deployment) as provisioner:
        kept = await provisioner.kept()
        return kept.id, kept.token
