"""Numbers and times as Redis holds them, read without ending the command that lists them.

A damaged one beside a hundred good ones reads as 0: what is listed is there to be looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime

LONGEST = 15
"""Digits of a number that is believed; in milliseconds, a time beyond any clock's."""


def whole_number(raw: bytes) -> int:
    """Read digits; 0 for whatever else it is."""
    return int(raw) if raw.isdigit() and len(raw) <= LONGEST else 0


def moment(raw: bytes) -> datetime:
    """Read milliseconds since the epoch (UTC); the epoch itself for whatever else it is."""
    try:
        return datetime.fromtimestamp(whole_number(raw) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
