"""What /readyz says of a process."""

from __future__ import annotations

from collections.abc import Mapping

from service.web.internal.app import Check
from service.wiring.parts.base import Base
from service.wiring.parts.gaps import Gaps


async def look_at_all(base: Base, gaps: Gaps, routes: int) -> Mapping[str, Check]:
    """Look at whatever every process has, and at the tasks that have failed lately.

    routes: how many its handlers have.
    """
    return {
        "redis": await base.redis.check(),
        "setup": base.setup.check(),
        "instance": Check(ok=base.instance.ready.is_set(), detail=base.instance.state),
        # Texts arrive and replies leave without it: no reason to take no traffic.
        "backfill": Check(ok=True, detail=gaps.state),
        # It is allowed for, and still worth knowing.
        "clock": Check(ok=True, detail=base.clocks.state),
        "handlers": Check(ok=True, detail=f"{routes} routes"),
        **{
            name: Check(ok=state.running or not state.answers, detail=str(state))
            for name, state in base.tasks.failed.items()
        },
    }
