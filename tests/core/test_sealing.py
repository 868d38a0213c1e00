from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.sealing import Sealer
from service.errors import SettingsError

KEY, NEW = "k" * 32, "n" * 32
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=50)
@given(TEXTS)
def test_what_is_sealed_comes_back(text: str) -> None:
    """Replies carry a broken instance token."""
    assert Sealer([KEY]).unseal(Sealer([KEY]).seal(text)) == text


def test_a_sealed_text_shows_nothing_of_it() -> None:
    """Who reads Redis has the instance token."""
    sealer = Sealer([KEY])
    sealed = sealer.seal("cuED0/DezalhhzK2OtO6kMP7NvPnMyNcRDZc=")
    assert sealed.isascii()
    assert "cuED0" not in sealed
    assert sealer.seal("cuED0/DezalhhzK2OtO6kMP7NvPnMyNcRDZc=") != sealed


def test_a_former_key_still_opens_and_the_newest_seals() -> None:
    """Rotating SECRET_KEY loses the instance, or never gets rid of the old key."""
    rotating = Sealer([NEW, KEY])
    assert rotating.unseal(Sealer([KEY]).seal("token")) == "token"
    assert Sealer([NEW]).unseal(rotating.seal("token")) == "token"


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param(Sealer([KEY]).seal("token"), id="another key"),
        pytest.param(Sealer([NEW]).seal("token")[:-4], id="cut off"),
        pytest.param("A" + Sealer([NEW]).seal("token")[1:], id="changed"),
        pytest.param("token", id="never sealed"),
        pytest.param("grün 😊", id="not even ASCII"),
        pytest.param("", id="empty"),
    ],
)
def test_what_no_key_opens_says_what_to_do(sealed: str) -> None:
    """The operator who changed SECRET_KEY sees a traceback of a library."""
    with pytest.raises(SettingsError, match="SECRET_KEY=new,former") as caught:
        Sealer([NEW]).unseal(sealed)
    assert KEY not in str(caught.value)
    assert NEW not in str(caught.value)


@settings(max_examples=50)
@given(TEXTS, TEXTS)
def test_a_fingerprint_changes_with_the_text_alone(one: str, other: str) -> None:
    """A changed Twilio token is not noticed, or every start changes the instance."""
    same = Sealer([KEY]).fingerprint(one) == Sealer([KEY]).fingerprint(other)
    assert same == (one == other)


def test_a_fingerprint_can_not_be_made_without_the_key() -> None:
    """Who reads Redis tries out tokens until one has the fingerprint."""
    prints = {Sealer(keys).fingerprint("x") for keys in ([KEY], [NEW], [NEW, KEY])}
    assert len(prints) == 2
    assert all(len(each) == 64 for each in prints)


@pytest.mark.parametrize("key", ["x" * 32, "grün 😊" * 8, "k" * 500], ids=["short", "odd", "long"])
def test_a_key_may_be_any_text(key: str) -> None:
    """A perfectly good SECRET_KEY keeps the service from starting."""
    assert Sealer([key]).unseal(Sealer([key]).seal("token")) == "token"
