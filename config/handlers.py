"""The example handlers. Copy this file, change it, and set HANDLERS to your copy.

A handler takes a message and returns what to send: nothing, a text, a Reply or a list of them.
The first route that matches a message wins, in the order written here.
"""

from __future__ import annotations

import asyncio

from service import Message, Router

router = Router()

# Example data. A real service asks its database or another service.
ORDERS = {"A-1001": "left our warehouse this morning", "A-1002": "is waiting for its parts"}


@router.keyword("HELLO", "HI")
async def greet(message: Message) -> str:
    """Answer "hello", "Hi!" and "HELLO ..." alike: case and punctuation are forgiven."""
    return "Hi! This is Parley. Text ECHO and some words, or ORDER A-1001."


@router.pattern(r"(?s)^\s*echo\s+(?P<words>\S.*)")
def echo(message: Message, words: str) -> str:
    """Repeat the words, several lines too. A plain `def` runs in a thread, so it may block."""
    return words


@router.pattern(r"\border\s+(?P<number>[A-Z]-\d+)")
async def order(message: Message, number: str) -> str:
    """Look an order up: a named group of the pattern arrives as an argument."""
    await asyncio.sleep(0)  # Here a database would be asked.
    number = number.upper()
    state = ORDERS.get(number)
    if state is None:
        return f"I know no order {number}. Try A-1001."
    return f"Order {number} {state}."


@router.default
async def help_text(message: Message) -> str:
    """Answer whatever nothing above has matched."""
    return "I did not get that. Text HELLO, ECHO and some words, or ORDER and its number."
