"""What a test knows and the types leave open: that something is there, or of which kind it is."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return what has to be there."""
    assert value is not None
    return value


def as_a(kind: type[T], value: object) -> T:
    """Return what has to be of this kind."""
    assert isinstance(value, kind), value
    return value
