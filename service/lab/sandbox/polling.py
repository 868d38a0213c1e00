"""The platform's polling: now and then one event tells of everything there was since the last.

It tells of the whole account: texts to every number of it, and what we sent ourselves. An event
that is not taken is repeated with growing waits; then the subscription is deactivated.

Source: SAP Open Connectors' documentation of events and webhooks.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from service.lab.sandbox.announcements import Announcement, build_polled_event
from service.lab.sandbox.elements import ENABLED
from service.lab.sandbox.instance import Instance, Subscription
from service.lab.sandbox.network import Network
from service.lab.sandbox.records import Records

WAITS_MIN = (30, 60, 90, 150, 240)
"""Minutes before each repetition of an event that was not taken: five of them in 9.5 hours, as at
SAP; how the hours are divided is not documented."""

ROWS = 1_000
"""Most rows of one event; the rest come with the next, at once. Twilio's own page has as many."""

TICK_S = 0.05
"""How often it is looked whether an instance is due."""


class Poller:
    """Polls for every instance that wants events, while that is switched on.

    rows: most of one event.
    """

    def __init__(self, records: Records, network: Network, *, rows: int = ROWS) -> None:
        self._records = records
        self._network = network
        self._rows = rows
        self._following: asyncio.Task[None] | None = None
        self._repeating: set[asyncio.Task[None]] = set()

    def follow(self) -> None:
        """Begin to poll by the clock, where `relay` is polled."""
        if self._records.switches.relay == "polled" and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def poll(self) -> list[dict[str, Any]]:
        """Poll now for every instance that wants events; tell what became of each."""
        told = []
        for instance in list(self._records.instances.values()):
            rows, status = await self._poll(instance)
            state = instance.subscription.state
            told.append({"instance": instance.id, "rows": rows, "status": status, "events": state})
        return told

    async def aclose(self) -> None:
        """End polling and repetitions."""
        tasks = [*self._repeating, *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        while self._records.switches.relay == "polled":
            now_s = time.monotonic()
            for instance in list(self._records.instances.values()):
                subscription = instance.subscription
                if subscription.due_s is not None and subscription.due_s <= now_s:
                    subscription.due_s = None
                    await self._poll(instance)
                if subscription.due_s is None:
                    interval_s = instance.refresh_min * self._records.switches.minute_s
                    subscription.due_s = now_s + interval_s
            await asyncio.sleep(TICK_S)
        self._following = None

    async def _poll(self, instance: Instance) -> tuple[int, int]:
        """Tell an instance of what is new; returns how many rows, and the last status."""
        subscription = instance.subscription
        total, status = 0, 0
        while self._is_current(instance, subscription) and not subscription.busy:
            messages = self._records.messages_after(subscription.seen, self._rows)
            if not messages:
                break
            subscription.busy = True
            subscription.seen = messages[-1].serial
            total += len(messages)
            event = build_polled_event(instance, messages)
            status, wrong = await self._network.announce(event, "polled")
            if wrong:
                subscription.state = f"not taken: {wrong}"
                task = asyncio.get_running_loop().create_task(self._repeat(instance, event))
                self._repeating.add(task)
                task.add_done_callback(self._repeating.discard)
                break
            subscription.busy = False
        return total, status

    async def _repeat(self, instance: Instance, event: Announcement) -> None:
        subscription = instance.subscription
        wrong = ""
        for minutes in WAITS_MIN:
            await asyncio.sleep(minutes * self._records.switches.minute_s)
            if not self._is_current(instance, subscription):
                return
            _, wrong = await self._network.announce(event, "polled, again")
            if not wrong:
                subscription.state, subscription.busy = "", False
                return
        self._records.configure(instance, {ENABLED: "false"})
        state = f"deactivated after {1 + len(WAITS_MIN)} attempts: {wrong}"
        instance.subscription = Subscription(active=False, state=state)

    def _is_current(self, instance: Instance, subscription: Subscription) -> bool:
        """Tell whether a subscription still is the one of its instance, and wanted."""
        there = self._records.instances.get(instance.id) is instance
        return there and instance.subscription is subscription and instance.wants_events
