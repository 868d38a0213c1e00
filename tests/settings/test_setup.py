"""The setup beside the other sources: what is typed fills gaps, and never wins."""

from __future__ import annotations

import pytest

from service.errors import SettingsError
from service.settings.setup import REQUIRED, SECRET, SETUP_FIELDS, Given, load_given

BASE = {"PUBLIC_URL": "https://sms.example.com", "SECRET_KEY": "k" * 40}
TYPED = {
    "open_connectors_base_url": "https://api.example.com/elements/api-v2",
    "open_connectors_user_secret": "user-secret",
    "open_connectors_organization_secret": "organization-secret",
    "twilio_account_sid": f"AC{'0' * 32}",
    "twilio_auth_token": "auth-token",
    "twilio_sender": "+14155550100",
}


def given(**more: str) -> Given:
    """What the sources say with these variables more."""
    return load_given(environ={**BASE, **more})


def test_a_service_starts_without_any_of_it() -> None:
    """Nobody could open the page that asks for the credentials."""
    settings = given().partial()
    assert not settings.is_set_up
    assert settings.public_url == "https://sms.example.com"
    assert settings.auth_tokens == ()
    assert set(given().missing({})) == REQUIRED


def test_what_is_typed_makes_settings_whole() -> None:
    """The door would verify with something else than what was typed."""
    settings = given().settings(TYPED)
    assert settings.is_set_up
    assert settings.twilio_auth_token.get_secret_value() == "auth-token"
    assert not given().missing(TYPED)
    assert given().partial(TYPED).is_set_up


def test_what_is_set_elsewhere_wins_over_what_is_typed() -> None:
    """A deployment by files would be changed from a browser."""
    found = given(TWILIO_SENDER="+14155550199")
    assert found.settings(TYPED).twilio_sender == "+14155550199"
    assert found.fixed() == {"twilio_sender"}
    entry = found.entries(TYPED)["twilio_sender"]
    assert (entry.value, entry.source, entry.fixed) == ("+14155550199", "environment", True)


def test_what_is_typed_wins_over_a_default() -> None:
    """An instance could be given no name in the console."""
    typed = TYPED | {"instance_name": "Front desk"}
    assert given().settings(typed).instance_name == "Front desk"
    assert given().settings(TYPED).instance_name == "Parley"


def test_blank_values_count_as_not_typed() -> None:
    """An empty field would be taken for a credential."""
    assert given().missing(TYPED | {"twilio_sender": "  "}) == ("twilio_sender",)


def test_each_field_s_problem_is_told_at_it() -> None:
    """A person who types would search for what is wrong."""
    entries = given().entries({"twilio_account_sid": "ACx", "twilio_sender": "+14155550100"})
    assert entries["twilio_account_sid"].problem.startswith("is not an account SID")
    assert entries["twilio_account_sid"].value == "ACx"
    assert entries["twilio_sender"].problem == ""
    assert entries["twilio_auth_token"].problem == "is missing"
    assert entries["twilio_auth_token_secondary"].problem == ""


def test_what_is_given_and_wrong_keeps_the_start_from_it() -> None:
    """A mistyped variable would be taken for one that nobody has set."""
    with pytest.raises(SettingsError, match="TWILIO_ACCOUNT_SID is not an account SID"):
        given(TWILIO_ACCOUNT_SID="ACx")
    with pytest.raises(SettingsError, match="PUBLIC_URL is missing"):
        load_given(environ={"SECRET_KEY": "k" * 40})


def test_what_is_missing_is_an_error_where_all_of_it_is_needed() -> None:
    """A command would ask the connector without a secret."""
    with pytest.raises(SettingsError) as caught:
        given().settings({"twilio_sender": "+14155550100"})
    names = [problem.split()[0] for problem in caught.value.problems]
    assert sorted(names) == sorted(each.upper() for each in REQUIRED - {"twilio_sender"})


def test_secrets_stay_out_of_what_is_printed() -> None:
    """A traceback or a debugger's line would tell them."""
    found = given(TWILIO_AUTH_TOKEN="the-auth-token")
    shown = repr(found) + repr(found.partial(TYPED)) + repr(found.entries(TYPED))
    for secret in ("the-auth-token", "user-secret", "organization-secret", "k" * 40):
        assert secret not in shown
    assert set(SETUP_FIELDS) >= SECRET
