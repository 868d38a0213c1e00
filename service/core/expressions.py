"""What can be said for certain of a regular expression that routes search texts for. Pure.

Read off the expression as it is written, for the few forms that people write by mistake. What is
not among them is not guessed at.
"""

from __future__ import annotations

import re

_OPEN = r"(?:\((?:\?P<\w+>|\?:)?)*"
_ANYTHING = r"(?:\.\*\??)?"
_is_everything = re.compile(
    rf"(?:\^|\\A)?{_OPEN}{_ANYTHING}\)*|{_OPEN}{_ANYTHING}\)*(?:\$|\\Z)"
).fullmatch
"""Nothing, or as much as there is, at one end of the text; groups around it."""

_says_more = re.compile(r"[|\[]|\\\\|\(\?(?!P<|:)|\)[?*{]").search
"""Alternatives, sets, conditions and what may be left out: there it takes more than a look."""

_dollar = re.compile(r"(?<!\\)\$(?:[A-Za-z0-9 ]|\\d)(?![?*{])").search
"""A `$` that must have something after it, which is no newline: it was meant as itself."""


def takes_everything(expression: re.Pattern[str]) -> bool:
    """Tell whether it is certainly found in every text, the empty one too."""
    return _is_everything(expression.pattern) is not None


def takes_nothing(expression: re.Pattern[str]) -> bool:
    """Tell whether it is certainly found in no text, as "$5" is: a `$` stands for the end."""
    if expression.flags & (re.MULTILINE | re.VERBOSE) or _says_more(expression.pattern):
        return False
    return _dollar(expression.pattern) is not None
