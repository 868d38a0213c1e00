"""The instance token at rest, and the digest that notices a changed secret."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.sealing import Sealer
from service.errors import SettingsError

KEY, FORMER = "k" * 32, "a former key, of any text at all: äöü 👋"


@settings(max_examples=30)
@given(st.text())
def test_what_is_sealed_can_be_unsealed(text: str) -> None:
    """The instance would be lost at every restart."""
    assert Sealer([KEY]).unseal(Sealer([KEY]).seal(text)) == text


def test_a_sealed_token_shows_nothing_of_itself() -> None:
    """Whoever reads Redis could send texts in our name."""
    sealed = Sealer([KEY]).seal("instance-token")

    assert "instance-token" not in sealed
    assert sealed.isascii()
    assert Sealer([KEY]).seal("instance-token") != sealed


def test_a_former_key_still_opens_what_it_sealed() -> None:
    """Changing SECRET_KEY would lose the instance."""
    assert Sealer([KEY, FORMER]).unseal(Sealer([FORMER]).seal("token")) == "token"


def test_the_newest_key_seals() -> None:
    """A former key could never be taken away."""
    assert Sealer([KEY]).unseal(Sealer([KEY, FORMER]).seal("token")) == "token"


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param(Sealer([FORMER]).seal("token"), id="sealed with another key"),
        pytest.param(Sealer([KEY]).seal("token")[:-8], id="cut short"),
        pytest.param("", id="empty"),
        pytest.param("no token at all", id="never sealed"),
        pytest.param("ünsealed", id="not ASCII"),
    ],
)
def test_what_no_key_opens_is_explained_with_what_to_do(sealed: str) -> None:
    """The operator would read "InvalidToken", or nothing."""
    with pytest.raises(SettingsError, match="SECRET_KEY=new,former") as caught:
        Sealer([KEY]).unseal(sealed)

    assert len(caught.value.problems) == 1


def test_a_fingerprint_is_a_stable_digest_that_needs_the_key() -> None:
    """A changed secret would go unnoticed, or Redis would allow guessing it."""
    fingerprint = Sealer([KEY]).fingerprint("secret")

    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint)
    assert Sealer([KEY]).fingerprint("secret") == fingerprint
    assert Sealer([KEY]).fingerprint("secret2") != fingerprint
    assert Sealer([FORMER]).fingerprint("secret") != fingerprint


def test_nothing_of_a_key_is_shown() -> None:
    """A traceback with local variables would give SECRET_KEY away."""
    assert KEY not in repr(Sealer([KEY]))
