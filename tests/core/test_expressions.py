"""What is certain of an expression, and what is not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.expressions import takes_everything, takes_nothing

EVERYTHING = [
    *("", ".*", "^", "$", ".*?", "^.*", ".*$", r"(?P<text>.*)", r"\A(.*?)", "((.*))", "(?:.*)$"),
]
NOTHING = [
    *("$5 off", r"(?P<amount>$\d+)", "$x", "send $20", "($1)", r"\$ and $5"),
]
NEITHER = [
    *("^$", "^.*$", ".+", "x", r"\b", "(?=x)", "(?!x)", "(?<=x)", "(x?)y", r"(x)?\1", "x*y", "$5?"),
    *("$\n", r"$\s", "$.", "$[^a]", "a$|b", r"\$5", "[$]5", "(?:$5)?x", "a|b^", "(?m:a^b)"),
    *("(?m)$\n5", "x?^y", "(?:a^)*b", "$(?:a|\n)", r"(?s)$.", "a(?!^)", "(?<!a)^b", "$5*", "a|"),
    *("(?m)$5", r"\\$5", "(?x)$ 5", "($5){0}a", "(?#$5)a", "(?!$5)"),
]

TEXTS = ["", "x", "y", "5", "$5", "\n", "a\nb", "ab", "order 5", "5\n", "xy", "b", "a\n\n", " "]


@pytest.mark.parametrize("expression", EVERYTHING)
def test_what_takes_everything_is_known_and_does(expression: str) -> None:
    """The routes behind it would stay silent for ever, and nobody be told."""
    compiled = re.compile(expression, re.IGNORECASE)
    assert takes_everything(compiled)
    assert not takes_nothing(compiled)
    assert all(compiled.search(text) for text in TEXTS)


@pytest.mark.parametrize("expression", NOTHING)
def test_what_takes_nothing_is_known_and_does(expression: str) -> None:
    """A forgotten backslash would leave a route that never answers."""
    compiled = re.compile(expression, re.IGNORECASE)
    assert takes_nothing(compiled)
    assert not takes_everything(compiled)
    assert not any(compiled.search(text) for text in TEXTS)


@pytest.mark.parametrize("expression", NEITHER)
def test_of_anything_else_nothing_is_said(expression: str) -> None:
    """A route that works would stop the start."""
    compiled = re.compile(expression)
    assert not takes_everything(compiled)
    assert not takes_nothing(compiled)


@given(
    st.lists(
        st.sampled_from(
            [*"ab^$.|()*?+5", r"\Z", r"\A", r"\b", "\n", r"\s", r"\d", "[^a]", "(?:", "x?"]
        ),
        max_size=8,
    ).map("".join),
    st.text("ab5 \nx", max_size=6),
    st.sampled_from([0, re.IGNORECASE, re.MULTILINE, re.DOTALL]),
)
def test_no_text_ever_shows_otherwise(expression: str, text: str, flags: int) -> None:
    """Certain means certain: a start that is refused wrongly can't be argued with."""
    try:
        compiled = re.compile(expression, flags)
    except (re.error, RecursionError):
        return
    found = compiled.search(text)
    assert found or not takes_everything(compiled)
    assert not found or not takes_nothing(compiled)
