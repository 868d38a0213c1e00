"""An instance as the sandbox keeps it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from service.lab.sandbox.elements import (
    ELEMENTS,
    ENABLED,
    FILTER_NULLS,
    NUMBER_OF_ACCOUNT,
    REFRESH_INTERVAL,
    Element,
)
from service.lab.sandbox.message import now_s

REFRESH_MIN = 15.0
"""Minutes between two polls where the entry says nothing that can be read."""


@dataclass(slots=True)
class Subscription:
    """Where an instance's polled events stand.

    seen: serial of the newest message told of. due_s: when it is polled next, by the monotonic
    clock; None before that is known. busy: a notification is under way, or waits to be repeated.
    state: "" for one that works, else what is wrong, a sentence. active: it is polled at all.
    """

    seen: int = 0
    due_s: float | None = None
    busy: bool = False
    state: str = ""
    active: bool = True


@dataclass(slots=True)
class Instance:
    """A provisioned instance, secrets in the clear: the phone network has to sign with them.

    entry_ids: the number the platform gave each configuration entry.
    """

    id: int
    name: str
    token: str = field(repr=False)
    element: str
    configuration: dict[str, str] = field(repr=False)
    tags: list[str]
    disabled: bool = False
    entry_ids: dict[str, int] = field(default_factory=dict)
    subscription: Subscription = field(default_factory=Subscription)
    created_at: str = field(default_factory=now_s)

    @property
    def kind(self) -> Element:
        """Its connector."""
        return ELEMENTS[self.element]

    @property
    def our_number(self) -> str:
        """The number that texts go to."""
        return self.configuration.get(self.kind.sender, NUMBER_OF_ACCOUNT)

    @property
    def callback_url(self) -> str:
        """Where texts are delivered, a fragment with connection overrides included."""
        return self.configuration.get(self.kind.callback_url, "")

    @property
    def account(self) -> str:
        """The Twilio account."""
        return self.configuration.get(self.kind.account, "")

    @property
    def auth_token(self) -> str:
        """The token of that account, with which callbacks are signed."""
        return self.configuration.get(self.kind.token, "")

    @property
    def filters_nulls(self) -> bool:
        """Whether its answers leave out what is null."""
        return self.configuration.get(FILTER_NULLS) != "false"

    @property
    def wants_events(self) -> bool:
        """Whether the platform relays to it what it polled.

        The older connector has an address for callbacks and no switch, as far as is documented.
        """
        if not self.callback_url or self.disabled or not self.subscription.active:
            return False
        return not self.kind.switched or self.configuration.get(ENABLED) == "true"

    @property
    def refresh_min(self) -> float:
        """Minutes between two polls."""
        try:
            minutes = float(self.configuration.get(REFRESH_INTERVAL, ""))
        except ValueError:
            return REFRESH_MIN
        return minutes if 0 < minutes < math.inf else REFRESH_MIN
