from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.core.twilio.forms import FIELD_LIMIT, parse
from service.errors import CallbackTooLarge

SAMPLES = sorted((Path(__file__).parents[2] / "samples" / "twilio").glob("*.form"))


def judge(form: bytes) -> list[tuple[str, str]]:
    """Read it with the standard library."""
    return parse_qsl(form.decode("utf-8", "replace"), keep_blank_values=True)


PIECES = (
    *(b"&", b"=", b"+", b"%", b"%2", b"%zz", b"%C3", b"%a9", b"%F0%9F%98%8A", b"%F0%9F", b"%26"),
    *(b"%3D", b"%00", b"%E0%80", b"a", b"Body", b"\xc3", b"\xa9", b"\x00", b";", b" ", b"\n"),
    *(b"\\", b"\\x41", b"%5C", b"x41", b"u0041"),
)
formish = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


@given(st.binary(max_size=200) | formish)
@example(b"%F0%9F%98A")
@example(b"%ED%A0%80")
@example("é=%C3".encode())
def test_every_input_reads_as_the_standard_library_reads_it(form: bytes) -> None:
    """A parameter read otherwise than Twilio wrote it makes a genuine callback look forged."""
    assert parse(form) == judge(form)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_reads_as_the_standard_library_reads_it(sample: Path) -> None:
    """The bodies Twilio really sends must be read right whatever the random ones show."""
    form = sample.read_bytes().rstrip(b"\n")
    assert len(parse(form)) >= 8
    assert parse(form) == judge(form)


@pytest.mark.parametrize(
    ("form", "pairs"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"a=&b", [("a", ""), ("b", "")], id="blank values are kept"),
        pytest.param(b"a=2&a=1&a=2", [("a", "2"), ("a", "1"), ("a", "2")], id="repeats are kept"),
        pytest.param(b"a=1%2B1+%3D", [("a", "1+1 =")], id="plus and blank"),
        pytest.param(b"a=b=c", [("a", "b=c")], id="equals sign in the value"),
        pytest.param(b"&&a=1&", [("a", "1")], id="empty fields are none"),
        pytest.param(b"a=%C3%A9%F0%9F%98%8A", [("a", "é😊")], id="UTF-8"),
        pytest.param(b"a=%E9", [("a", "\ufffd")], id="Latin-1 is not UTF-8"),
        pytest.param(b"a=+x+", [("a", " x ")], id="nothing is trimmed"),
        pytest.param(b"a=1;b=2", [("a", "1;b=2")], id="a semicolon separates nothing"),
    ],
)
def test_a_form_is_read(form: bytes, pairs: list[tuple[str, str]]) -> None:
    """Texts with signs, umlauts and blanks arrive as they were typed."""
    assert parse(form) == pairs


def test_more_fields_than_the_limit_are_refused() -> None:
    """Without a bound a stranger makes us sort and hash tens of thousands of fields for nothing."""
    assert len(parse(b"&".join([b"a=1"] * FIELD_LIMIT))) == FIELD_LIMIT
    with pytest.raises(CallbackTooLarge, match="200"):
        parse(b"&".join([b"a=1"] * (FIELD_LIMIT + 1)))
    with pytest.raises(CallbackTooLarge):
        parse(b"&" * FIELD_LIMIT)
