"""What is said of a handler that failed: to the log, and in the dead letter."""

from __future__ import annotations

import re
import traceback
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote_plus

from service.errors import HandlerError
from service.handlers.places import line_of_error
from service.handlers.router import Choice
from service.model import Message

OURS = Path(__file__).parent

TEXT_LIMIT = 300
"""Characters of an error's text that reach the log."""

TRACE_LIMIT = 8_000
"""Characters of a traceback that a dead letter keeps, the last ones."""

QUOTED = 8
"""Characters in a row that are taken for a quotation; and so is a word with a digit, a word of
four letters, and two words in a row."""


def outline(error: HandlerError, choice: Choice, message: Message) -> str:
    """Say in a line what a handler did wrong and where in the author's code.

    Without the error's text where that quotes the message, as the log holds no texts and numbers;
    the whole of it is in the dead letter and the retry note, in Redis.
    """
    cause = error.__cause__
    said = str(error) if cause is None else _named(cause, message)
    place = line_of_error(cause.__traceback__ if cause else None, choice.handler)
    return f"{said} at {place}" if place else said


def frames_of(error: HandlerError) -> str:
    """Show the calls that led to a handler's error, without what it says and without variables."""
    cause = error.__cause__
    return "" if cause is None else "".join(traceback.format_tb(authors_part(cause))).rstrip()


def full_text(error: HandlerError) -> str:
    """Say all that is known of a failure: a line, and behind it the traceback if there is one."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    trace = "".join(traceback.format_exception(type(cause), cause, authors_part(cause))).rstrip()
    return f"{error}\n{trace[-TRACE_LIMIT:]}"


def authors_part(cause: BaseException) -> TracebackType | None:
    """Leave out the calls that lead to the handler: they are the same for every one."""
    trace = cause.__traceback__
    while trace is not None and Path(trace.tb_frame.f_code.co_filename).parent == OURS:
        trace = trace.tb_next
    return trace


def _named(cause: BaseException, message: Message) -> str:
    said = " ".join(str(cause).split())
    name = type(cause).__name__
    return name if not said or quotes(said, message) else f"{name}: {said[:TEXT_LIMIT]}"


def quotes(said: str, message: Message) -> bool:
    """Say whether a text repeats something of a message: of its body, a number, a parameter."""
    readings = {said, unquote_plus(said), _unescaped(said)}
    return any(_repeats(_plain(reading), message) for reading in readings)


def _repeats(said: str, message: Message) -> bool:
    digits = re.sub(r"[^0-9]", "", said)
    for number in (message.from_, message.to):
        own = re.sub(r"[^0-9]", "", number)
        if (own and own[-7:] in digits) or _plain(number) in said:
            return True
    values = [value for value in message.raw.values() if len(value) >= QUOTED]
    if any(_plain(value) in said for value in (*values, *(each.url for each in message.media))):
        return True
    body = _plain(message.body)
    if any(body[at : at + QUOTED] in said for at in range(len(body) - QUOTED + 1)):
        return True
    words = re.findall(r"\w+", body)
    known = re.findall(r"\w+", said)
    if any(left in set(known) and _tells(left) for left in words):
        return True
    pairs = set(pairwise(known))
    return any(pair in pairs for pair in pairwise(words))


def _tells(word: str) -> bool:
    return len(word) >= 4 or any(character.isdigit() for character in word)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _unescaped(said: str) -> str:
    r"""Read what is written as "\u00e9" or "\xe9", as repr() and JSON do."""
    return re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))",
        lambda found: chr(int(found[1] or found[2], 16)),
        said,
    )
