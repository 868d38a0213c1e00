"""Texts that are too long for one message."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.core.splitting import split


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        pytest.param("short", 10, ["short"], id="one that fits"),
        pytest.param(" as it is ", 10, [" as it is "], id="one that fits, blanks and all"),
        pytest.param("one two three", 7, ["one two", "three"], id="at a blank behind the limit"),
        pytest.param("one two three", 9, ["one two", "three"], id="at a word's end"),
        pytest.param("Hi there. You are", 15, ["Hi there.", "You are"], id="at a sentence's end"),
        pytest.param("one two\nthree four", 12, ["one two", "three four"], id="at a line's end"),
        pytest.param("ab cd\n\nef\ngh", 10, ["ab cd", "ef\ngh"], id="at a paragraph's end"),
        pytest.param("a. bcdefg hijk", 11, ["a. bcdefg", "hijk"], id="not far before the limit"),
        pytest.param(
            "see https://x.example/a.b?c=d now",
            28,
            ["see", "https://x.example/a.b?c=d", "now"],
            id="an address stays whole",
        ),
        pytest.param("abcdefgh", 3, ["abc", "def", "gh"], id="a word that is too long is cut"),
        pytest.param("abe\u0301f", 3, ["ab", "e\u0301f"], id="an accent stays on its letter"),
        pytest.param(
            "ab\U0001f468\u200d\U0001f469c",
            4,
            ["ab", "\U0001f468\u200d\U0001f469c"],
            id="an emoji of several stays whole",
        ),
        pytest.param("abc\U0001f44d\U0001f3fd", 4, ["abc", "\U0001f44d\U0001f3fd"], id="a tone"),
        pytest.param("abc\U0001f1e9\U0001f1ea", 4, ["abc", "\U0001f1e9\U0001f1ea"], id="a flag"),
        pytest.param("e" + "\u0301" * 5, 3, ["e\u0301\u0301", "\u0301" * 3], id="no good place"),
        pytest.param("     ", 3, ["   "], id="blanks alone"),
    ],
)
def test_a_text_is_split_at_the_best_place(text: str, limit: int, pieces: list[str]) -> None:
    """A word, an address or an emoji arrives in two halves."""
    assert split(text, limit) == pieces


@given(st.text(st.sampled_from("ab.\n \u0301\u200d\U0001f468x"), max_size=80), st.integers(1, 20))
@example("a b", 1)
def test_no_word_is_lost_and_every_piece_fits(text: str, limit: int) -> None:
    """Somebody gets half of an answer, or a piece that Twilio refuses."""
    pieces = split(text, limit)
    assert all(len(piece) <= limit for piece in pieces)
    if text.strip():
        assert all(piece.strip() for piece in pieces) or len(text) <= limit
    assert "".join("".join(pieces).split()) == "".join(text.split())
    words = text.split()
    if all(len(word) <= limit for word in words):
        assert " ".join(pieces).split() == words
