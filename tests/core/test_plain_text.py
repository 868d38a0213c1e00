"""What people read of a stranger's text: all of it, and nothing that acts."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.plain_text import escape, escape_in_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Grüße 😊 ❤️ 日本 שלום [/x] [red]", None, id="what is simply shown"),
        pytest.param("Prix : 10 €", None, id="blanks of other widths"),
        pytest.param("C:\\new", None, id="a backslash"),
        pytest.param("\x1b]0;owned\x07", r"\x1b]0;owned\x07", id="a window title"),
        pytest.param("a\r\nb\tc", r"a\r\nb\tc", id="lines"),
        pytest.param("\x9b31m\x7f", r"\x9b31m\x7f", id="one-byte controls"),
        pytest.param("\u202egpj.exe", r"\u202egpj.exe", id="right to left"),
        pytest.param("a\u2028b\u2029", r"a\u2028b\u2029", id="separators of lines"),
        pytest.param("pay\u200bpal\ufeff", r"pay\u200bpal\ufeff", id="no width"),
        pytest.param("\U000e0041\u3164", r"\U000e0041\u3164", id="tags and fillers"),
        pytest.param("\ud800", r"\ud800", id="a lone surrogate"),
        pytest.param("\ue000", r"\ue000", id="private use"),
    ],
)
def test_a_text_is_shown_and_not_obeyed(text: str, shown: str | None) -> None:
    """An operator's terminal would do what a stranger's text says."""
    assert escape(text) == (text if shown is None else shown)


@given(st.text(st.characters()))
def test_whatever_is_sent_comes_out_as_one_line_that_can_be_written(text: str) -> None:
    """One letter that was not thought of would be enough."""
    shown = escape(text)
    assert not {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} & set(map(unicodedata.category, shown))
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert escape(shown) == shown


WRITABLE = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(WRITABLE, WRITABLE), st.booleans())
def test_json_says_the_same_with_nothing_in_it_that_acts(value: object, plain: bool) -> None:
    """A script would read another text than was sent, or a log's reader be deceived."""
    shown = escape_in_json(json.dumps(value, ensure_ascii=plain, indent=1))
    assert json.loads(shown) == value
    assert escape(shown.replace("\n", "")) == shown.replace("\n", "")
