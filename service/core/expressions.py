"""What can be said for certain of a regular expression that routes search texts for. Pure.

Read from the tree that the standard library's own parser makes; its module is private, as is the
tree's form, so whatever is not known here says nothing. What can't be decided is not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from re import _parser as parser  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Any

BEGINNINGS = {"AT_BEGINNING", "AT_BEGINNING_STRING"}
ENDS = {"AT_END", "AT_END_STRING"}
REPEATS = {"MAX_REPEAT", "MIN_REPEAT"}
NO_NEWLINE = {"CATEGORY_DIGIT", "CATEGORY_WORD"}

NEWLINE = ord("\n")
"""The one character that may stand behind a `$`: before it, at the end of the text."""


@cache  # Asked again for every route behind it.
def takes_everything(expression: re.Pattern[str]) -> bool:
    """Tell whether it is certainly found in every text, the empty one too.

    So it is when it may match nothing at all, at the beginning of any text or at its end.
    """
    tree = _read(expression)
    return _may_be_empty(tree, BEGINNINGS) or _may_be_empty(tree, ENDS)


def takes_nothing(expression: re.Pattern[str]) -> bool:
    """Tell whether it is certainly found in no text: it asks for something outside of it.

    As with a `$` that was meant as itself, in "$5", or a `^` behind what must come before it.
    """
    lines = bool(expression.flags & re.MULTILINE)
    return not lines and _is_outside(_read(expression), before=0, after=0)


def _read(expression: re.Pattern[str]) -> Any:
    return parser.parse(expression.pattern, expression.flags)


def _may_be_empty(tree: Any, anchors: Collection[str]) -> bool:
    """Tell whether it may match nothing where these anchors hold, asking for nothing else."""
    for op, value in tree:
        name = str(op)
        if name == "AT":
            empty = str(value) in anchors
        elif name in REPEATS:
            empty = value[0] == 0 or _may_be_empty(value[2], anchors)
        elif name == "SUBPATTERN":
            empty = _may_be_empty(value[3], anchors)
        elif name == "BRANCH":
            empty = any(_may_be_empty(each, anchors) for each in value[1])
        else:
            empty = False
        if not empty:
            return False
    return True


def _is_outside(tree: Any, before: int, after: int) -> bool:
    """Tell whether a part of a sequence can't match.

    before, after: characters that are matched at least on both sides of the whole tree.
    """
    widths = [tree[place : place + 1].getwidth()[0] for place in range(len(tree))]
    for place, (op, value) in enumerate(tree):
        name = str(op)
        left, right = before + sum(widths[:place]), after + sum(widths[place + 1 :])
        if name == "AT":
            outside = _anchored_outside(str(value), left, right, tree[place + 1 :])
        elif name == "SUBPATTERN":
            # Flags of its own may change what an anchor means.
            outside = not (value[1] or value[2]) and _is_outside(value[3], left, right)
        elif name in REPEATS:
            outside = value[0] > 0 and _is_outside(value[2], left, right)
        elif name == "BRANCH":
            outside = all(_is_outside(each, left, right) for each in value[1])
        else:
            outside = False
        if outside:
            return True
    return False


def _anchored_outside(anchor: str, left: int, right: int, following: Any) -> bool:
    if anchor in BEGINNINGS:
        return left > 0
    if anchor == "AT_END_STRING":
        return right > 0
    if anchor != "AT_END" or right == 0:
        return False
    # One newline may follow, if what must follow can be one.
    needed = [item for item in following if not _may_be_empty([item], ())]
    return right > 1 or (len(needed) == 1 and not _may_be_newline(*needed[0]))


def _may_be_newline(op: Any, value: Any) -> bool:
    name = str(op)
    if name == "LITERAL":
        return bool(value == NEWLINE)
    if name in REPEATS:
        return len(value[2]) != 1 or _may_be_newline(*value[2][0])
    if name == "IN":
        return any(_may_be_newline(*each) for each in value)
    if name == "RANGE":
        return bool(value[0] <= NEWLINE <= value[1])
    return name != "CATEGORY" or str(value) not in NO_NEWLINE
