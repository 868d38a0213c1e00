"""Keeps strangers' web pages away from a listener of the house.

A browser on this machine or in its network reaches the internal listener for any page it shows: by
a name of the page's own that has come to lead here (DNS rebinding), or from the page's own site.
Names are known or refused, and whatever says that it comes from another site is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from service.host.answers import Answer, AsgiApp, AsgiMessage, Receive, Scope, Send, answer
from service.web.hosts import is_known

UNKNOWN_HOST = answer(421, b"no host of this listener; INTERNAL_HOSTS names those it has")
FOREIGN = answer(403, b"not for other sites")

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""Nothing here is a script or a page, whatever it looks like."""


def guarded(app: AsgiApp, hosts: Collection[str] = ()) -> AsgiApp:
    """Put the guard before an application.

    hosts: names it may be asked for by, besides this machine's own ("localhost") and IP addresses.
        A page that comes by rebinding comes by its own name, so addresses are safe, and probes
        that use them need no setting.
    """
    names = frozenset(host.lower().rstrip(".") for host in hosts)

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_plainly(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], NO_SNIFFING]}
            await send(message)

        refusal = _refusal(scope["headers"], names) if scope["type"] == "http" else None
        if refusal is None:
            await app(scope, receive, send_plainly)
        else:
            await refusal.send(send_plainly)

    return guard


def _refusal(headers: Sequence[tuple[bytes, bytes]], names: frozenset[str]) -> Answer | None:
    hosts = [value for name, value in headers if name == b"host"]
    # Without one it is no browser: probes of HTTP/1.0 leave it out.
    if not all(is_known(host.decode("latin-1"), names) for host in hosts):
        return UNKNOWN_HOST
    for name, value in headers:
        if name == b"sec-fetch-site" and value.strip().lower() == b"cross-site":
            return FOREIGN
        if name == b"origin" and value not in {b"http://" + host for host in hosts}:
            return FOREIGN
    return None
