"""Opt-outs: who wants no more texts."""

from __future__ import annotations

from service.operate.deployment import Deployment, open_store
from service.store import opt_outs
from service.store.opt_outs import OptOut


async def list_all(deployment: Deployment) -> list[OptOut]:
    """List who has opted out of which of our numbers, the oldest first."""
    async with open_store(deployment) as (client, _):
        return await opt_outs.list_opt_outs(client, deployment.settings.partitions)
