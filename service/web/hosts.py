"""What a Host header names, for the guards of the internal listener's applications."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_known(
    authority: str, names: Collection[str], is_ours: Callable[[Address], bool] = lambda _: True
) -> bool:
    """Tell whether a Host header names this machine, one of `names`, or an address that is ours.

    names: in lower case, without a dot at the end. is_ours: asked of an IP address; without it
        each is.
    """
    try:
        parts = urlsplit(f"//{authority}")
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.netloc != authority or "@" in authority:
        return False
    host = host.rstrip(".")
    if host in names or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return is_ours(ipaddress.ip_address(host))
    except ValueError:
        return False
