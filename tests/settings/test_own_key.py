"""The SECRET_KEY that is made up for a Redis of our own: when, and when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings.setup import load_given
from service.settings.sources import own_key_file, wants_key

KEY = "0123456789abcdef" * 4
OWN = "fedcba9876543210" * 4


def environ_of(folder: Path, **changes: str) -> dict[str, str]:
    """Settings without a SECRET_KEY and without a REDIS_URL."""
    return {"PUBLIC_URL": "https://sms.example.com", "DATA_DIR": str(folder)} | changes


def test_a_key_is_made_up_for_a_new_redis_of_our_own_alone(tmp_path: Path) -> None:
    """What others' Redis or an old one holds would be sealed with a key that nobody else has."""
    new = tmp_path / "new"
    assert wants_key(environ_of(new), {})
    assert not wants_key(environ_of(new, SECRET_KEY=KEY), {})
    assert not wants_key(environ_of(new, SECRET_KEY_FILE="/nowhere"), {})
    assert not wants_key(environ_of(new, REDIS_URL="redis://127.0.0.1"), {})
    new.mkdir()
    (new / "secret.key").write_text(f"{OWN}\n")
    assert not wants_key(environ_of(new), {})
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "parley.lock").touch()
    assert not wants_key(environ_of(begun), {})


def test_the_key_that_was_made_up_is_read_where_no_other_is_given(tmp_path: Path) -> None:
    """Commands beside the service could open nothing, or would use it where another is meant."""
    file = tmp_path / "secret.key"
    file.write_text(f"{OWN}\n")
    given = load_given(environ=environ_of(tmp_path))
    assert given.partial().secret_keys == (OWN,)
    assert own_key_file(given.gathered) == file
    for more in ({"SECRET_KEY": KEY}, {"SECRET_KEY": KEY, "REDIS_URL": "redis://127.0.0.1"}):
        other = load_given(environ=environ_of(tmp_path, **more))
        assert other.partial().secret_keys == (KEY,)
        assert own_key_file(other.gathered) is None
    with pytest.raises(SettingsError, match="SECRET_KEY is missing"):
        load_given(environ=environ_of(tmp_path, REDIS_URL="redis://127.0.0.1"))


def test_a_key_that_cant_be_read_is_told_of_by_its_file(tmp_path: Path) -> None:
    """Somebody would look for a SECRET_KEY that they never set."""
    file = tmp_path / "secret.key"
    file.mkdir()
    with pytest.raises(SettingsError, match="SECRET_KEY can't be read: Is a directory"):
        load_given(environ=environ_of(tmp_path))
    file.rmdir()
    file.write_text("short")
    with pytest.raises(SettingsError, match=r"secret\.key"):
        load_given(environ=environ_of(tmp_path))
