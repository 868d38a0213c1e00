"""What stands before every request: whose name was asked for, which site asks, how much it sends.

The sandbox shows texts to whoever asks. Any page open in a browser of this machine can ask: under a
name of its own that leads here (DNS rebinding), or from its own site with a form. And whoever sends
without end must not fill the memory.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from ipaddress import ip_address
from typing import Any

from service.lab.sandbox.answers import BODY_LIMIT_BYTES, Refused, answer_error, is_json
from service.lab.sandbox.loopback import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTROL = "/sandbox/"
"""Where the sandbox's own API lies, which needs no secret."""

HOST = re.compile(rb"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,253}))(?::[0-9]{1,5})?")
"""A Host header: an address in brackets, or a name or an address, and a port."""

HOSTS_REMEMBERED = 100
"""Host headers found good; further ones are read each time."""


class Guard:
    """Passes an application the requests that are meant for it.

    hosts: what it was told to listen at, or is called by its users.
    public: whether it listens beyond this machine. Addresses are then good as well: a page that
        comes to us by rebinding always comes by a name.
    """

    def __init__(self, app: AsgiApp, *, hosts: Collection[str], public: bool) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._public = public
        self._good: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_host(scope["headers"])
            if scope["path"].startswith(CONTROL):
                _check_site(scope["method"], dict(scope["headers"]))
        except Refused as error:
            await answer_error(error)(scope, receive, send)
            return
        reads = scope["method"] in {"GET", "HEAD"}
        await self._app(scope, receive if reads else _bounded(receive), send)

    def _check_host(self, headers: Collection[tuple[bytes, bytes]]) -> None:
        given = [value for name, value in headers if name == b"host"]
        if len(given) == 1 and given[0] in self._good:
            return
        name = _name_of(given[0]) if len(given) == 1 else ""
        if not self._is_ours(name):
            raise Refused(
                403,
                "This Host is not the sandbox's; ask for it as localhost, or say the name it has "
                "with `parley sandbox --public --name ...`",
            )
        if len(self._good) < HOSTS_REMEMBERED:
            self._good.add(given[0])

    def _is_ours(self, name: str) -> bool:
        if is_loopback(name) or (name and name in self._hosts):
            return True
        return self._public and _is_address(name)


def _name_of(host: bytes) -> str:
    """Return the name or address in a Host header, in lower case; "" for none."""
    found = HOST.fullmatch(host.lower())
    return (found[1] or found[2]).decode() if found else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _check_site(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Let pass our own page, and whoever is no browser. Raises Refused (403, 415)."""
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    # Browsers that tell the site are believed; of others, the page's origin has to be ours.
    other = (
        site not in {b"same-origin", b"none"} if site is not None else _is_foreign(origin, headers)
    )
    if other:
        raise Refused(403, "Another site's page may not use the sandbox")
    if method not in {"GET", "HEAD"} and not is_json(headers.get(b"content-type", b"")):
        # Asking for JSON also keeps forms out: a page can't send it elsewhere without permission.
        raise Refused(415, "The Content-Type must be application/json")


def _is_foreign(origin: bytes | None, headers: Mapping[bytes, bytes]) -> bool:
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _bounded(receive: Receive) -> Receive:
    """Receive a body up to the limit; what is longer raises Refused (429).

    The server reads the rest and drops it: a connection that is closed on it would take the answer
    along.
    """
    left = BODY_LIMIT_BYTES

    async def receive_some() -> MutableMapping[str, Any]:
        nonlocal left
        event = await receive()
        left -= len(event.get("body", b""))
        if left < 0:
            raise Refused(429, f"The body is longer than {BODY_LIMIT_BYTES} bytes")
        return event

    return receive_some
