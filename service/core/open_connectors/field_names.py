"""Which field of another model a name stands for: by its case, its meaning, its letters. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

SAME_THING: Sequence[frozenset[str]] = (
    frozenset({"to", "recipient", "tonumber"}),
    frozenset({"from", "sender", "fromnumber"}),
    frozenset({"body", "message", "text", "content"}),
    frozenset({"mediaurl", "media", "mediaurls"}),
)
"""Names, in lower case, that the hub model and Twilio give to the same thing."""


def same_name(one: str, other: str) -> bool:
    """Tell whether two names stand for the same thing."""
    low, also = one.lower(), other.lower()
    return low == also or any({low, also} <= group for group in SAME_THING)


def nearest_name(name: str, free: Sequence[str]) -> str:
    """Find the described name that ours stands for; "" where none comes near."""
    lowered = {each.lower(): each for each in reversed(free)}
    if name.lower() in lowered:
        return lowered[name.lower()]
    meanings = [group for group in SAME_THING if name.lower() in group]
    same = [each for low, each in lowered.items() if any(low in group for group in meanings)]
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.75)
    return same[0] if same else lowered[near[0]] if near else ""
