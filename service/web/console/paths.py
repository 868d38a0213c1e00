"""Where the console's pages lie, and which of them somebody may be sent to after signing in."""

from __future__ import annotations

from urllib.parse import urlsplit

ROOT = "/console"
OVERVIEW = ROOT
LIVE = f"{ROOT}/overview/live"
SIGN_IN = f"{ROOT}/sign-in"
SIGN_OUT = f"{ROOT}/sign-out"
SESSIONS = f"{ROOT}/sessions"
END_SESSION = f"{ROOT}/sessions/end"
AUDIT = f"{ROOT}/audit"
KEYBOARD = f"{ROOT}/keyboard"
STATIC = f"{ROOT}/static"

CONNECT = f"{ROOT}/connect"

INSTANCE = f"{ROOT}/instance"
INSTANCE_TOKEN = f"{INSTANCE}/token"
TAKE = f"{INSTANCE}/take"

LONGEST = 500
"""Characters of a place to come back to; a search of the audit trail is far below."""


def is_ours(path: str) -> bool:
    """Tell whether a request's path is the console's."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def is_within(here: str, page: str) -> bool:
    """Tell whether a request's path is a page of the navigation, or one that belongs to it."""
    return here == page or (page != ROOT and here.startswith(f"{page}/"))


def way_back(wanted: str) -> str:
    r"""Return `wanted` if it is a page of the console to come back to, else the overview.

    Whoever made the address that somebody signs in at may have chosen it: nothing that leads to
    another site, and nothing that a browser reads as if it did ("//", "\\"), is followed.
    """
    if len(wanted) > LONGEST or not wanted.isascii() or not wanted.isprintable():
        return OVERVIEW
    if "\\" in wanted or "//" in wanted or " " in wanted:
        return OVERVIEW
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return OVERVIEW
    steps = parts.path.split("/")
    if parts.scheme or parts.netloc or not is_ours(parts.path) or {".", ".."} & {*steps}:
        return OVERVIEW
    if "%" in parts.path or parts.path in {SIGN_IN, SIGN_OUT, LIVE, END_SESSION}:
        return OVERVIEW
    return wanted
