"""What is said of a handler that failed: to the log, and in the dead letter."""

from __future__ import annotations

import re
import traceback
import unicodedata
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
four letters, two words in a row, the whole body however short, and two characters in a row of a
script that leaves no blanks between words."""

DIGITS = 4
"""Digits in a row that are taken for a number, however they are grouped."""

TECHNICAL = {"ApiVersion", "NumMedia", "NumSegments", "SmsStatus"}
"""Parameters of a callback that tell of nobody."""

SHORTEST = 3
"""Characters of any other parameter that are taken for a quotation as a word: "CA" tells little."""

WITHOUT_BLANKS = (
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
    r"\U00020000-\U0003ffff]"
)
"""Characters of Thai, Lao, Burmese, Khmer, Japanese, Chinese and Korean."""

URL = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^\s'\"<>]*@)?([^\s/?#'\"<>]*)[^\s'\"<>]*", re.IGNORECASE
)
"""A URL, with its scheme and its host as groups. Around them may be passwords and keys."""


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
    if not said or quotes(said, message):
        return name
    told = URL.sub(r"\1\2", said)
    return f"{name}: {told[:TEXT_LIMIT]}"


def quotes(said: str, message: Message) -> bool:
    """Say whether a text repeats something of a message: of its body, a number, a parameter."""
    readings = {said, unquote_plus(said), *_unescaped(said)}
    return any(_repeats(_plain(reading), message) for reading in readings)


def _repeats(said: str, message: Message) -> bool:
    body = _plain(message.body)
    digits = _digits(said)
    numbers = [_digits(number)[-7:] for number in (message.from_, message.to)]
    numbers += [each for each in map(_digits, _groups(body)) if len(each) >= DIGITS]
    if any(number and number in digits for number in numbers):
        return True
    values = [message.from_, message.to, *(each.url for each in message.media)]
    values += [
        value
        for name, value in message.raw.items()
        if name not in TECHNICAL and len(value) >= SHORTEST
    ]
    if any(_holds(said, value) for value in (body, *map(_plain, values))):
        return True
    if any(body[at : at + QUOTED] in said for at in range(len(body) - QUOTED + 1)):
        return True
    pairs = re.findall(f"(?=({WITHOUT_BLANKS}{{2}}))", body)
    if any(pair in said for pair in pairs):
        return True
    words = re.findall(r"\w+", body)
    known = re.findall(r"\w+", said)
    if any(left in set(known) and _tells(left) for left in words):
        return True
    both = set(pairwise(known))
    return any(pair in both for pair in pairwise(words))


def _holds(said: str, value: str) -> bool:
    """Say whether a text holds a value, as a word of its own where words have ends."""
    if len(value) >= QUOTED or re.search(WITHOUT_BLANKS, value):
        return value in said
    return bool(value and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", said))


def _tells(word: str) -> bool:
    return len(word) >= 4 or any(character.isdigit() for character in word)


def _groups(body: str) -> list[str]:
    """Find what may be a number, with the marks that people put between its digits."""
    return re.findall(r"\d[\d\s().+/-]*\d", body)


def _digits(text: str) -> str:
    """Leave the digits alone, those of any script as 0 to 9."""
    return "".join(str(unicodedata.digit(each)) for each in text if each.isdigit())


def _plain(text: str) -> str:
    """Write a text as any other that reads the same: its case, blanks and composed characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _unescaped(said: str) -> tuple[str, str]:
    r"""Read what is written as "\u00e9", "\xe9" or "\xc3\xa9", as repr(), JSON and bytes do."""
    text = re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U(00[01][0-9a-fA-F]{5}))",
        lambda found: chr(min(int(found[1] or found[2] or found[3], 16), 0x10FFFF)),
        said,
    )
    # Halves of characters, as JSON writes those beyond U+FFFF.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    as_utf8 = re.sub(
        "[\x80-\xff]+", lambda found: found[0].encode("latin-1").decode(errors="replace"), text
    )
    return text, as_utf8
