"""An error in a few words, for a line of the log."""

from __future__ import annotations

import json

import pytest

from service.core.causes import cause_of
from service.core.retry import Schedule


def test_the_innermost_frame_of_ours_is_named() -> None:
    """Whoever reads the log would have to find the one line of a traceback that matters."""
    with pytest.raises(TypeError) as caught:
        Schedule(1, 2, 3).wait_ms("no number", 0.5)  # type: ignore[arg-type]  # what is wrong  # type: ignore[arg-type]  # what is wrong
    cause = cause_of(caught.value)
    assert cause["error"].startswith("TypeError: unsupported operand")
    assert cause["at"].startswith("service/core/retry.py:")
    assert cause["at"].endswith(" in wait_ms")


def test_without_a_frame_of_ours_the_innermost_is_named_and_the_text_is_one_line() -> None:
    """A library's error would come from nowhere, or break the line."""
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    assert "json/decoder.py:" in cause_of(caught.value)["at"]
    assert cause_of(ValueError("two\n lines")) == {"error": "ValueError: two lines"}
    assert cause_of(ValueError()) == {"error": "ValueError"}
