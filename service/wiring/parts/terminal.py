"""The terminal that a service was started in is shown the way into the console, if there is need.

What is shown signs in, so it is written to the terminal itself, and never to a log.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable

from service.wiring.parts.base import Base

WAY = """
Parley is not set up. Open this address in a browser on this machine, once, within ten minutes:

    {address}

Later: parley console. In this terminal: parley connect.

"""


def way_in(
    base: Base, internal: socket.socket, *, first: bool
) -> Callable[[], Awaitable[None]] | None:
    """Return what shows the way into the console, None where nobody would see it.

    internal: the listener that has the console. first: no process beside this one shows it.
    """
    if not first or base.settings.console == "off" or not sys.stderr.isatty():
        return None

    async def show() -> None:
        from service.operate.audit import note
        from service.operate.console import address_of, make_token, root_of

        token = await make_token(base.client, "operator")
        about = "a one-time address, as operator"
        await note(
            base.client, who="the terminal of the service", via="command", what="serve", about=about
        )
        host, port = internal.getsockname()[:2]
        sys.stderr.write(WAY.format(address=address_of(root_of(host, port), token)))
        sys.stderr.flush()

    return show
