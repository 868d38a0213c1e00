"""Failed sign-ins at the console: counted by network and in all, with waits that grow.

A network is an IPv4 address, or the 64 bits of an IPv6 one that a site has: its hosts choose the
others. Counting in all is for a flood from many networks. Failures are forgotten one by one.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from service.core.proofs import digest_of
from service.store import keys
from service.store.scripts import TAKE_BACK_TRY, TRY_SIGN_IN, run_alone

if TYPE_CHECKING:
    from service.store.client import Redis


class Bound(NamedTuple):
    """What failures cost.

    free: so many cost no wait. first_ms, longest_ms: the wait after the next one, doubled by each
    further one, and what it ends at. forgotten_ms: after how long one failure is forgotten.
    """

    free: int
    first_ms: int
    longest_ms: int
    forgotten_ms: int

    @property
    def most(self) -> int:
        """Failures that are counted: with these the wait is the longest, more would add nothing."""
        return self.free + (self.longest_ms // self.first_ms).bit_length() + 1


OF_NETWORK = Bound(free=5, first_ms=2_000, longest_ms=900_000, forgotten_ms=900_000)
"""People mistype a few times. Whoever goes on gets four tries an hour."""

IN_ALL = Bound(free=50, first_ms=1_000, longest_ms=30_000, forgotten_ms=60_000)
"""One network never gets here alone, by its own waits. Many together get two tries a minute."""


class Looked(NamedTuple):
    """Whether a sign-in may be looked at, and ms to wait: until it may, or after it if it fails."""

    now: bool
    wait_ms: int


async def ask(client: Redis, address: str) -> Looked:
    """Ask whether a sign-in from this address may be looked at; it counts as failed if so.

    `sessions.begin` and `take_back` take that back. Raises StoreUnavailable.
    """
    places = _places(address)
    bounds = [word for bound in (OF_NETWORK, IN_ALL) for word in (*bound, bound.most)]
    now, wait_ms = await run_alone(client, TRY_SIGN_IN, places, bounds)
    return Looked(bool(now), int(wait_ms))


async def take_back(client: Redis, address: str) -> None:
    """Count a try as failed no longer: it was right. Raises StoreUnavailable."""
    forgotten = (OF_NETWORK.forgotten_ms, IN_ALL.forgotten_ms)
    await run_alone(client, TAKE_BACK_TRY, _places(address), forgotten)


def _places(address: str) -> tuple[str, str]:
    return keys.tries_of(digest_of(network_of(address))), keys.TRIES


def network_of(address: str) -> str:
    """Return the network that failures of this address are counted by; what is no IP, as it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
