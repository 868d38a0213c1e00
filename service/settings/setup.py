"""The setup: settings that may be typed in the console instead, and how they go with the others.

In order of growing strength: the default, the setup, `service.toml`, the environment, a secret
file, the command line. What a setup holds is told to these functions; `store.setups` keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, SecretStr

from service.errors import SettingsError
from service.settings.forms import AccountSid, ConnectorAddress, Secret, SenderAddress
from service.settings.loading import SECRETS, check_values
from service.settings.sources import DEFAULT, Found, Gathered, gather
from service.settings.table import SET_UP_BY, Settings

SETUP_FIELDS = (
    "open_connectors_base_url",
    "open_connectors_user_secret",
    "open_connectors_organization_secret",
    "twilio_account_sid",
    "twilio_auth_token",
    "twilio_auth_token_secondary",
    "twilio_sender",
    "connector_element",
    "event_signature_key",
    "instance_name",
    "instance_tag",
)
"""Settings that a setup may hold, in the order they are asked for."""

REQUIRED = SET_UP_BY
"""Those without which no text can be taken or answered."""

SECRET = SECRETS & frozenset(SETUP_FIELDS)
"""Those that are never shown."""

SETUP = "setup"
"""Source of a value that a setup holds."""


class PartialSettings(Settings):
    """Settings of a service that may not be set up yet: what nobody has given is empty."""

    open_connectors_base_url: ConnectorAddress = Field(default="", validate_default=False)
    open_connectors_user_secret: Secret = Field(default=SecretStr(""), validate_default=False)
    open_connectors_organization_secret: Secret = Field(
        default=SecretStr(""), validate_default=False
    )
    twilio_account_sid: AccountSid = Field(default="", validate_default=False)
    twilio_auth_token: Secret = Field(default=SecretStr(""), validate_default=False)
    twilio_sender: SenderAddress = Field(default="", validate_default=False)


@dataclass(frozen=True, slots=True)
class GivenEntry:
    """What is known of one entry of the setup.

    value: as it was written, right or wrong. source: in the words of `loading.SettingRow`, or
    SETUP; "" where nobody has given it. fixed: given elsewhere, so that a setup can't change it.
    problem: what is wrong with it, as "is missing"; "" when nothing is.
    """

    value: str = field(repr=False)
    source: str
    fixed: bool
    problem: str


@dataclass(frozen=True, slots=True)
class Given:
    """What the sources say besides a setup. Its values stay out of reprs.

    typed, everywhere below: what the setup holds, by field; blank values count as not typed.
    """

    gathered: Gathered = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)

    def settings(self, typed: Mapping[str, str]) -> Settings:
        """Return whole settings. Raises SettingsError with every problem there is."""
        return self._checked(typed, Settings)

    def partial(self, typed: Mapping[str, str] | None = None) -> Settings:
        """Return settings as far as they are given; `is_set_up` tells whether that is enough.

        Raises SettingsError for whatever is given and wrong.
        """
        return self._checked(typed or {}, PartialSettings)

    def missing(self, typed: Mapping[str, str]) -> tuple[str, ...]:
        """Return the fields that a setup needs and nobody has given."""
        found = self._with(typed).found
        return tuple(each for each in SETUP_FIELDS if each in REQUIRED and each not in found)

    def fixed(self) -> frozenset[str]:
        """Return the fields that are given elsewhere, where a setup can't change them."""
        return frozenset(
            each
            for each in SETUP_FIELDS
            if each in self.gathered.found and self.gathered.found[each].source != DEFAULT
        )

    def entries(self, typed: Mapping[str, str]) -> Mapping[str, GivenEntry]:
        """Return what is known of each field of a setup."""
        gathered = self._with(typed)
        _, problems = check_values(gathered, self.environ, Settings)
        wrong = {problem.name: problem.what for problem in reversed(problems)}
        fixed = self.fixed()
        entries = {}
        for each in SETUP_FIELDS:
            found = gathered.found.get(each)
            if found is None:
                default = Settings.model_fields[each].default
                value = str(default) if isinstance(default, str) else ""
                source = DEFAULT if value else ""
            else:
                value, source = str(found.value), found.source
            problem = wrong.get(each.upper(), "")
            entries[each] = GivenEntry(value, source, each in fixed, problem)
        return entries

    def _with(self, typed: Mapping[str, str]) -> Gathered:
        known = self.fixed()
        more = {
            each: Found(typed[each], SETUP)
            for each in SETUP_FIELDS
            if each not in known and typed.get(each, "").strip()
        }
        return Gathered({**self.gathered.found, **more}, list(self.gathered.problems))

    def _checked(self, typed: Mapping[str, str], model: type[Settings]) -> Settings:
        settings, problems = check_values(self._with(typed), self.environ, model)
        if settings is None or problems:
            raise SettingsError([problem.text for problem in problems])
        return settings


def load_given(
    config_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Given:
    """Read every source but the setup; arguments as for `loading.load_settings`.

    Raises SettingsError for what is given and wrong, or missing and not the setup's.
    """
    environ = os.environ if environ is None else environ
    given = Given(gather(config_dir, environ, options or {}), dict(environ))
    given.partial()
    return given
