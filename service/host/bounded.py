"""Chooses what listeners make connections of: `bounds`, or uvicorn's own where that can't be had.

The bounds are put to uvicorn's connection over httptools. A uvicorn that was not tested may have
none, or another one; then a listener works by what uvicorn documents, within uvicorn's bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import structlog

from service.core.tested import UVICORN

if TYPE_CHECKING:
    from service.host.crowd import Crowd

log = structlog.get_logger()

Connections = Callable[..., asyncio.Protocol] | Literal["auto"]
"""What `uvicorn.Config` takes as `http`; "auto" is uvicorn's own choice."""

UVICORNS = "uvicorn.protocols.http.httptools_impl"
"""Where uvicorn has the connection that `bounds` adds to."""

ADDED_TO = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_message_begin",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
    "pause_writing",
    "resume_writing",
    "_unset_keepalive_if_required",
)
"""What `bounds` adds to, or calls, in uvicorn's connection."""


def bounded(crowd: Crowd, *, version: str | None = None) -> Connections:
    """Make what `uvicorn.Config` takes as `http`: the connections of a crowd.

    version: uvicorn's, None for the one that is installed.
    """
    if not UVICORN.covers(version) and not _found():
        log.warning(
            "this version of uvicorn has no connection that our bounds can be put to: "
            "callers are held to uvicorn's own, and may send slowly and without end",
            version=version or UVICORN.installed(),
            tested=UVICORN.span,
        )
        return "auto"
    return partial(import_module("service.host.bounds").BoundedConnection, crowd=crowd)


def _found() -> bool:
    """Tell whether uvicorn has a connection like the one that was tested."""
    try:
        module: Any = import_module(UVICORNS)
        import_module("httptools")
    except ImportError:
        return False
    connection = getattr(module, "HttpToolsProtocol", None)
    return hasattr(module, "RequestResponseCycle") and all(
        hasattr(connection, name) for name in ADDED_TO
    )
