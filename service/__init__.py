"""Parley's public API: all that a handlers file imports.

Messages come in, a router chooses the handler, replies go out.

    from service import Message, Router

    router = Router()

    @router.default
    async def echo(message: Message) -> str:
        return f"You said: {message.body}"

Each name is imported when it is first asked for: every run of pytest imports this package for its
plugin, wherever Parley is installed, and the whole would cost each a tenth of its start.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.handlers.router import Router
    from service.model import Media, Message, Reply

__all__ = ["Media", "Message", "Reply", "Router"]

_HOMES = {
    "Media": "service.model",
    "Message": "service.model",
    "Reply": "service.model",
    "Router": "service.handlers.router",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
