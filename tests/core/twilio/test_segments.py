from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.twilio.segments import Segments, count_segments


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("", Segments("GSM-7", 0, 1), id="a picture alone"),
        pytest.param("Hello", Segments("GSM-7", 5, 1), id="plain"),
        pytest.param("a" * 160, Segments("GSM-7", 160, 1), id="one full part"),
        pytest.param("a" * 161, Segments("GSM-7", 161, 2), id="one letter too many"),
        pytest.param("a" * 306, Segments("GSM-7", 306, 2), id="two full parts"),
        pytest.param("a" * 307, Segments("GSM-7", 307, 3), id="two parts and a letter"),
        pytest.param("€" * 80, Segments("GSM-7", 160, 1), id="extended letters count twice"),
        pytest.param("a" * 152 + "€" + "a" * 153, Segments("GSM-7", 307, 3), id="no split escape"),
        pytest.param("д" * 70, Segments("UCS-2", 70, 1), id="one full part of Cyrillic"),
        pytest.param("д" * 71, Segments("UCS-2", 71, 2), id="one Cyrillic letter too many"),
        pytest.param("👍" * 35, Segments("UCS-2", 70, 1), id="emoji are two units"),
        pytest.param("👍" * 67, Segments("UCS-2", 134, 3), id="an emoji is never split"),
        pytest.param("it’s", Segments("UCS-2", 4, 1), id="a typographic apostrophe"),
    ],
)
def test_twilio_fact_12_a_text_takes_as_many_parts_as_the_network_makes_of_it(
    body: str, expected: Segments
) -> None:
    """A number limited to one part a second would be throttled at the wrong rate."""
    assert count_segments(body) == expected


def test_half_a_character_is_refused() -> None:
    """It can't be sent; counting it would hide that."""
    with pytest.raises(ValueError, match="surrogates"):
        count_segments("\ud83d")


@given(st.text(st.characters(codec="utf-8"), max_size=700), st.characters(codec="utf-8"))
def test_a_longer_text_never_takes_fewer_parts(body: str, more: str) -> None:
    """A rate limit that a text can slip under by growing is none."""
    assert count_segments(body + more).parts >= count_segments(body).parts
