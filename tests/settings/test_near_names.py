"""Names in the environment that are almost a setting's."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings.loading import find_near_names
from service.settings.table import Settings

STRANGERS = [
    name
    for line in (Path(__file__).parents[1] / "samples" / "environment.txt").read_text().splitlines()
    if not line.startswith("#")
    for name in line.split()
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HANDLER_TIMEOUTS_S", "HANDLER_TIMEOUT_S"),
        ("HANDLER_TIMEOUT", "HANDLER_TIMEOUT_S"),
        ("TWILIO_AUTHTOKEN", "TWILIO_AUTH_TOKEN"),
        ("TWILIO_AUTHTOKEN_FILE", "TWILIO_AUTH_TOKEN_FILE"),
        ("TWILIO_ACCOUNT_ID", "TWILIO_ACCOUNT_SID"),
        ("PUBLIC_URI", "PUBLIC_URL"),
        ("REDIS_URI", "REDIS_URL"),
        ("DATADIR", "DATA_DIR"),
        ("LOG_TEXT", "LOG_TEXTS"),
        ("SECRETKEY", "SECRET_KEY"),
        ("public_url", "PUBLIC_URL"),
        ("PARTITION", "PARTITIONS"),
    ],
)
def test_a_name_that_is_almost_a_settings_is_told(name: str, meant: str) -> None:
    """A time-out that somebody set would stay at its default, and nobody would know."""
    assert find_near_names({name: "30", "HOME": "/home/nobody"}) == (
        f"{name} is no setting; did you mean {meant}?",
    )


def test_no_setting_is_told() -> None:
    """Every start would warn of what is right."""
    names = [field.upper() for field in Settings.model_fields]
    assert find_near_names(dict.fromkeys([*names, *(f"{name}_FILE" for name in names)], "x")) == ()


def test_the_environment_of_a_working_machine_is_none_of_ours() -> None:
    """The one warning that counts would be lost among those of names that others own."""
    assert len(STRANGERS) > 300
    assert find_near_names(dict.fromkeys(STRANGERS, "x")) == ()


def test_a_value_is_never_told() -> None:
    """What has a secret's name, almost, has a secret."""
    assert "heron" not in "".join(find_near_names({"TWILIO_AUTHTOKEN": "heron"}))


def test_an_empty_variable_is_not_told() -> None:
    """An empty value counts as not set, here as everywhere."""
    assert find_near_names({"TWILIO_AUTHTOKEN": " "}) == ()
