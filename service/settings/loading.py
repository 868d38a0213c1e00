"""Settings loaded and checked as a whole, or listed for an operator with all that is wrong."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from service.errors import SettingsError
from service.settings.forms import REDIS_OPTIONS
from service.settings.sources import (
    CUSTOMARY,
    DEFAULT,
    SETTINGS_FILE,
    Gathered,
    Problem,
    gather,
    problem_of,
)
from service.settings.table import Settings

MASK = "********"
"""Stands for a secret, whatever its length; the same eight stars as in `core.masking`."""

SECRETS = frozenset(
    name for name, info in Settings.model_fields.items() if "SecretStr" in repr(info.annotation)
)
"""Fields whose value is never shown; of `redis_url` only the user and the password are hidden."""

WORDS: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "finite_number": "is not a number",
    "string_type": "must be text, in quotes",
    "path_type": "must be text, in quotes",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}
"""What pydantic finds, in our words. Its own are not shown: they may quote a secret."""


CLOSE = 0.88
"""How like a setting's name another has to be, by difflib: REDIS_URI is, REDIS_TLS_URL is not."""

SHORTEST = 6
"""Letters of a name that is compared at all: PORTS and HOSTS are anybody's."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A line of `parley settings`.

    shown: the value, secrets masked; "missing" for a required one, "not set" for an optional one.
    source: "default", "environment", "file /run/secrets/x", "config/service.toml:12" or "".
    problem: what is wrong with it, "" when nothing is.
    means: the setting in sentences, as docs/settings.md has them; "" for a whole file.
    """

    name: str
    shown: str
    source: str
    problem: str
    means: str = ""


def load_settings(
    config_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Settings:
    """Read and check every setting.

    config_dir: folder of service.toml; chosen by the function of that name if None.
    environ: the environment; the process's own if None.
    options: what the command line says, by the setting's name in lower case; stronger than all.
    Raises SettingsError with every problem there is, in the order of the table.
    """
    environ = os.environ if environ is None else environ
    gathered = gather(config_dir, environ, options or {})
    settings, problems = check_values(gathered, environ, Settings)
    if settings is None or problems:
        raise SettingsError([problem.text for problem in problems])
    return settings


def load_part(
    fields: Collection[str],
    config_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read and check a few settings, whatever the others are and though required ones are missing.

    fields: their names in lower case. The other arguments are as for `load_settings`.
    Returns settings of which these alone may be asked for; a required one that nobody has set is
        "". Raises SettingsError with every problem of these and of service.toml as a whole.
    """
    environ = os.environ if environ is None else environ
    gathered = gather(config_dir, environ, {})
    required = {each for each in fields if Settings.model_fields[each].is_required()}
    unset = dict.fromkeys(required - gathered.found.keys(), "")
    asked = [each for each in fields if each not in unset]
    types: dict[str, Any] = {
        each: (Settings.model_fields[each].annotation, Settings.model_fields[each])
        for each in asked
    }
    part, problems = check_values(gathered, environ, create_model("Part", **types))
    names = {"", *(each.upper() for each in fields)}
    if part is None or any(problem.name in names for problem in problems):
        raise SettingsError([problem.text for problem in problems if problem.name in names])
    values: dict[str, Any] = {each: getattr(part, each) for each in asked}
    return Settings.model_construct(None, **unset, **values)


def explain_settings(
    config_dir: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[SettingRow, ...]:
    """List every setting with its effective value and where that came from; never raises.

    Arguments as for `load_settings`. A problem of a whole file comes first, named after the file.
    """
    environ = os.environ if environ is None else environ
    gathered = gather(config_dir, environ, {})
    settings, problems = check_values(gathered, environ, Settings)
    texts: dict[str, str] = {}
    for problem in problems:
        texts.setdefault(problem.name, problem.text)
    rows = [
        SettingRow(SETTINGS_FILE, "", "", problem.text) for problem in problems if not problem.name
    ]
    for field, info in Settings.model_fields.items():
        name = field.upper()
        found = gathered.found.get(field)
        if found is not None:
            shown = _show(field, found.value, wrong=name in texts)
            source = found.source
        elif info.is_required():
            shown, source = "missing", ""
        else:
            default = info.default if settings is None else getattr(settings, field)
            text = str(default).lower() if isinstance(default, bool) else str(default)
            shown, source = "not set" if default is None else text, DEFAULT
        rows.append(SettingRow(name, shown, source, texts.get(name, ""), info.description or ""))
    return tuple(rows)


def _show(field: str, value: object, *, wrong: bool) -> str:
    text = str(value).strip()
    # Of a malformed address nobody knows which part is the password.
    if field in SECRETS and (field != "redis_url" or wrong):
        return f"{MASK} ({len(text)} characters)"
    if "://" not in text:
        return text
    text = re.sub(r"://.*@", f"://{MASK}@", text, flags=re.DOTALL)
    place, mark, query = text.partition("?")
    return place + mark + "&".join(map(_show_option, query.split("&")))


def _show_option(option: str) -> str:
    name, equals, _ = option.partition("=")
    harmless = REDIS_OPTIONS.fullmatch(name) and "password" not in name
    return option if harmless else f"{name}={MASK}" if equals else MASK if name else ""


Model = TypeVar("Model", bound=BaseModel)


def check_values(
    gathered: Gathered, environ: Mapping[str, str], model: type[Model]
) -> tuple[Model | None, list[Problem]]:
    """Make the settings, None if they can't be made, and sort all problems as the table is."""
    problems = list(gathered.problems)
    known = {problem.name for problem in problems}
    settings = None
    try:
        settings = model.model_validate(
            {field: found.value for field, found in gathered.found.items()}
        )
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            field = str(item["loc"][0])
            if field.upper() in known:
                continue
            if item["type"] == "missing":
                problems.append(problem_of(field, f"is missing{_misspelt(field, environ)}", ""))
            else:
                words = WORDS.get(item["type"], "is not valid").format(**item.get("ctx", {}))
                source = gathered.found[field].source if field in gathered.found else DEFAULT
                problems.append(problem_of(field, words, source))
    order = {field.upper(): place for place, field in enumerate(Settings.model_fields)}
    return settings, sorted(problems, key=lambda problem: order.get(problem.name, -1))


def find_near_names(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Say, in a sentence each, which names in the environment look like a setting and are none.

    environ: the environment; the process's own if None. Values are not told.
    """
    environ = os.environ if environ is None else environ
    settings = [field.upper() for field in Settings.model_fields]
    said = []
    for name, value in environ.items():
        bare, file = (name[:-5], "_FILE") if name.endswith("_FILE") else (name, "")
        known = name in settings or bare in settings or name in CUSTOMARY
        if known or len(bare) < SHORTEST or not value.strip():
            continue
        nearest = difflib.get_close_matches(bare.upper(), settings, n=1, cutoff=CLOSE)
        said += [f"{name} is no setting; did you mean {near}{file}?" for near in nearest]
    return tuple(said)


def _misspelt(field: str, environ: Mapping[str, str]) -> str:
    """Point at a variable that looks like the missing one and is none of ours."""
    others = [name for name in environ if name.lower() not in Settings.model_fields]
    near = difflib.get_close_matches(field.upper(), others, n=1, cutoff=0.85)
    return f" ({near[0]} is set: is that the one?)" if near else ""
