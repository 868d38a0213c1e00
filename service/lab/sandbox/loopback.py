"""Which hosts are this machine alone. Pure."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by itself: `localhost`, 127.0.0.0/8 or ::1.

    Other names are not asked for: whoever answers for a name may answer otherwise the next time.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
