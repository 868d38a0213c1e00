"""Splits a text that is too long for one message into several. Called by `handlers.running`."""

from __future__ import annotations

import re
import unicodedata

_JOINER = "\u200d"

_ENDS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile("(?<=[.!?\u2026\u3002])\\s"),
    re.compile(r"\s"),
)
"""Where a paragraph, a line, a sentence and a word end, the best place first."""


def split(text: str, limit: int) -> list[str]:
    """Split a text into pieces of at most `limit` characters, at blanks wherever there are any.

    The end of a paragraph is preferred to that of a line, that to a sentence's, and that to a
    word's, as long as the piece is more than half full. A word, so also an address, longer than
    `limit` is cut, though not within what is read as one sign: a letter and its accents, an emoji
    made of several. Blanks at the cuts are dropped; nothing else is.

    Returns at least one piece, none of them empty, unless the text is all blanks: then itself,
    cut to the limit.
    """
    pieces = []
    rest = text.strip() if len(text) > limit else text
    while len(rest) > limit:
        cut = _cut(rest, limit)
        pieces.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*pieces, rest] if rest else pieces or [text[:limit]]


def _cut(text: str, limit: int) -> int:
    """Find where the first piece of a text ends that does not begin with a blank."""
    # The character behind the piece counts as well: a blank there is a good place.
    head = text[: limit + 1]
    for end in _ENDS:
        least = 1 if end is _ENDS[-1] else limit // 2
        places = [found.start() for found in end.finditer(head) if found.start() >= least]
        if places:
            return places[-1]
    cut = limit
    while cut > 1 and _joined(text[cut - 1], text[cut]):
        cut -= 1
    return cut if cut > 1 else limit


def _joined(left: str, right: str) -> bool:
    """Say whether two characters are read as parts of one sign."""
    return (
        _JOINER in (left, right)
        or unicodedata.category(right).startswith("M")
        or "\U0001f3fb" <= right <= "\U0001f3ff"  # skin tones
        or ("\U0001f1e6" <= left <= "\U0001f1ff" and "\U0001f1e6" <= right <= "\U0001f1ff")  # flags
    )
