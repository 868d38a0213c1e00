"""Looks at what the processes of a deployment use and count, before a run and after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.lab.bench import usage
from service.lab.bench.control import Control
from service.lab.bench.figures import Counted, Usage
from service.lab.bench.plan import Place
from service.lab.bench.report import SERVED

SETTLE_S = 1.0
"""Between readiness and the look at idle memory: leases are taken, the collector has run."""

COUNTED_COMMANDS = ("evalsha", "eval", "xread")
"""What the service's clients send for a message. Scripts run none of these themselves."""


@dataclass(frozen=True, slots=True)
class Look:
    """All counters at one moment. processes: by role. own_s: CPU of the load generator."""

    processes: Mapping[str, Sequence[usage.Process]]
    own_s: float
    counters: Mapping[int, Mapping[str, int]]
    commands: Mapping[str, int] | None


class Watch:
    """Looks at processes and counters of a deployment, as far as they can be seen."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._internal = (
            Control(place.internal.rstrip("/"), "the internal listener") if place.internal else None
        )
        self._idle: dict[int, tuple[float, float]] = {}
        self.notes: list[str] = []

    async def begin(self) -> None:
        """Look at idle memory. Raises BenchFailed when the internal listener does not answer."""
        if self._place.service is None:
            self.notes.append(
                "CPU and memory: only of a deployment that bench starts itself (without --url)"
            )
        elif not usage.available():
            self.notes.append("CPU and memory: not measured, this system has no /proc")
        else:
            await asyncio.sleep(SETTLE_S)
            for processes in self._roles().values():
                for each in processes:
                    memory = usage.memory_mb(each.pid)
                    if memory is not None:
                        self._idle[each.pid] = memory
        if self._internal is None:
            self.notes.append("Redis round trips: not counted; --internal names the listener")

    async def look(self) -> Look:
        """Read every counter."""
        socket = self._place.redis_socket
        commands = usage.command_counts(socket) if socket else None
        return Look(self._roles(), time.process_time(), await self._counters(), commands)

    def used(self, before: Look, after: Look) -> list[Usage]:
        """Return what each role used between two looks, the load generator last."""
        found = []
        for role, processes in after.processes.items():
            earlier = {each.pid: each.cpu_s for each in before.processes.get(role, ())}
            cpu_s = sum(each.cpu_s - earlier.get(each.pid, 0.0) for each in processes)
            idle = [self._idle[each.pid] for each in processes if each.pid in self._idle]
            rss, pss = (sum(r for r, _ in idle), sum(p for _, p in idle)) if idle else (None, None)
            found.append(Usage(role, len(processes), cpu_s, rss, pss))
        found.append(Usage("load generator", 1, after.own_s - before.own_s))
        return found

    def counted(self, before: Look, after: Look) -> Counted | None:
        """Return the round trips between two looks; None when a process could not be asked."""
        if not after.counters or before.counters.keys() != after.counters.keys():
            return None

        def difference(name: str) -> int:
            return sum(
                after.counters[pid][name] - before.counters[pid][name] for pid in after.counters
            )

        commands = {}
        if before.commands is not None and after.commands is not None:
            commands = {
                name: after.commands.get(name, 0) - before.commands.get(name, 0)
                for name in COUNTED_COMMANDS
            }
        reads = commands.get("xread")
        return Counted(
            difference("script_calls"), difference("script_round_trips"), reads, commands
        )

    async def aclose(self) -> None:
        """Close the connection."""
        if self._internal is not None:
            await self._internal.aclose()

    def _roles(self) -> dict[str, list[usage.Process]]:
        roles: dict[str, list[usage.Process]] = {}
        if self._place.service is not None:
            family = usage.family(self._place.service)
            servers = [each for each in family if "redis-server" in each.command.split(" ")[0]]
            served = [each for each in family if each not in servers]
            if len(served) > 1:
                roles[SERVED] = [e for e in served if e.pid != self._place.service]
                roles["supervisor"] = [e for e in served if e.pid == self._place.service]
            elif served:
                roles[SERVED] = served
            if servers:
                roles["Redis"] = servers
        if self._place.sandbox is not None and (family := usage.family(self._place.sandbox)):
            roles["connector (sandbox)"] = family
        return roles

    async def _counters(self) -> dict[int, Mapping[str, int]]:
        """Ask until every process has answered: they share the listener."""
        found: dict[int, Mapping[str, int]] = {}
        if self._internal is None:
            return found
        wanted = self._place.processes or 1
        for _ in range(100 * wanted):
            counters = await self._internal.get("/counters")
            # The later answer of a process counts: it is the nearer to the others'.
            found[counters["pid"]] = counters
            if len(found) == wanted:
                return found
        self.notes.append("Redis round trips: not counted, not every process answered")
        return {}
