"""Parley's public API: all that a handlers file imports.

Messages come in, a router chooses the handler, replies go out.

    from service import Message, Router

    router = Router()

    @router.default
    async def echo(message: Message) -> str:
        return f"You said: {message.body}"
"""

from service.handlers.router import Router
from service.model import Media, Message, Reply

__all__ = ["Media", "Message", "Reply", "Router"]
