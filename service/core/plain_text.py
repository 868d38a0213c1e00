r"""What came from outside, written so that it can only be read. Used by commands and by the log.

A text, an error that quotes one, or a name at the connector may hold what a terminal obeys (escape
sequences, window titles), what forges lines, or what hides and turns letters around.
"""

from __future__ import annotations

import re
import unicodedata

UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\uffa0\ufff0-\ufff8"
    "\ufe00-\ufe0d\U000e0000-\U000e0fff]"
)
"""Letters and marks that show nothing, and stand in no category that says so: fillers, selectors of
variants, tags. Source: Unicode, Default_Ignorable_Code_Point, and the empty Braille cell. The two
selectors of emoji, U+FE0E and U+FE0F, are in too many texts to be taken out of them."""

OBEYED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of Unicode: controls, invisible formats (bidirectional ones among them), surrogates,
private use, separators of lines and paragraphs."""


def escape(text: str) -> str:
    r"""Return `text` in one line, with every character that is not simply shown as an escape.

    A newline becomes `\n`, ESC `\x1b`, a right-to-left mark `\u200f`. A backslash stays as it is:
    this is for reading, the exact text is in a command's JSON.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def escape_in_json(line: str) -> str:
    """Return JSON with what is not simply shown as JSON's own escapes, its newlines aside."""
    if line.isascii() and "\x7f" not in line:
        return line
    return "".join(c if c == "\n" or _shown(c) == c else _in_json(c) for c in line)


def _shown(character: str) -> str:
    if unicodedata.category(character) in OBEYED or UNSEEN.match(character):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
