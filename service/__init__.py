"""Parley's public API, all that a handlers file imports.

from service import Message, Reply, Router
"""

from service.handlers.router import Router
from service.model import Media, Message, Reply

__all__ = ["Media", "Message", "Reply", "Router"]
