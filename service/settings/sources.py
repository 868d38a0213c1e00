"""Where values come from: the default, `service.toml`, environment, secret file, command line.

In that order of growing strength. An empty value counts as not set. Nothing is checked here but
what keeps a value from being read.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from service.settings.forms import is_file_name
from service.settings.table import Settings

DEFAULT = "default"
"""Source of a value that nobody set."""

MADE_UP = "--secret_key"
"""Source of a SECRET_KEY that a start has just made up: no option of a command is called so."""

SETTINGS_FILE = "service.toml"
"""The operator's file in the config folder; every key in it is a setting's name in lower case."""

KEY_FILE = "secret.key"
"""In DATA_DIR: the SECRET_KEY that was made up with the Redis of our own, where none was given."""

BEGUN = "parley.lock"
"""In DATA_DIR once a Redis of our own has run there; what it holds may be sealed."""

PATHS = {"data_dir", "connector_ca_file"}

CUSTOMARY = {
    "https_proxy": "https_proxy",
    "http_proxy": "http_proxy",
    "no_proxy": "no_proxy",
    "SSL_CERT_FILE": "connector_ca_file",
}
"""What other programs know by these names counts for us where nothing of ours is set."""

PACKAGE = Path(__file__).parent.parent


class Problem(NamedTuple):
    """Something to put right: the setting's name as it is set ("" for a whole file), and what.

    what: the same without the name, the source and an example; "" for a whole file.
    """

    name: str
    text: str
    what: str = ""


class Found(NamedTuple):
    """A raw value, and its source in the words of `loading.SettingRow`."""

    value: str | int | float
    source: str


@dataclass(slots=True)
class Gathered:
    """Raw values by field name, the strongest source's, and the problems met on the way."""

    found: dict[str, Found]
    problems: list[Problem]


def config_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Choose the folder of service.toml, instance.json, message.json and handlers.py.

    In this order: CONFIG_DIR; `config` in the working directory if it holds a service.toml; the
    copy that the package carries (in a checkout, `config` beside the package).
    Returns an absolute path, which exists unless CONFIG_DIR is wrong.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get("CONFIG_DIR", "").strip()
    if chosen:
        return _place(chosen, Path.cwd(), environ)
    here = Path("config").absolute()
    if (here / SETTINGS_FILE).is_file():
        return here
    return packaged_config()


def packaged_config() -> Path:
    """Return the folder of configuration files that came with the package, as they came."""
    carried = PACKAGE / "_config"
    return carried if carried.is_dir() else PACKAGE.parent / "config"


def gather(folder: Path | None, environ: Mapping[str, str], options: Mapping[str, str]) -> Gathered:
    """Read every source there is.

    folder: of service.toml; chosen by `config_dir` if None. options: of the command line, by field.
    """
    gathered = Gathered({}, [])
    source = "environment" if environ.get("CONFIG_DIR", "").strip() else DEFAULT
    folder = config_dir(environ) if folder is None else folder.absolute()
    if not folder.is_dir():
        gathered.problems.append(problem_of("config_dir", f"names no folder: {folder}", source))
    _add_defaults(folder, environ, gathered)
    _read_settings_file(folder / SETTINGS_FILE, environ, gathered)
    _read_environment(environ, gathered)
    for field, value in options.items():
        gathered.found[field] = Found(value, f"--{field}")
    gathered.found["config_dir"] = Found(str(folder), source)
    if not _has_key(gathered):
        _read_own_key(_own_key_file(gathered), gathered)
    return gathered


def wants_key(environ: Mapping[str, str], options: Mapping[str, str]) -> bool:
    """Tell whether a SECRET_KEY is to be made up: for a Redis of our own that is new."""
    gathered = gather(None, environ, options)
    return not _has_key(gathered) and not _own_key_file(gathered).with_name(BEGUN).exists()


def own_key_file(gathered: Gathered) -> Path | None:
    """Return the file of the made-up SECRET_KEY; None where another one is in use."""
    path = _own_key_file(gathered)
    source = gathered.found["secret_key"].source
    return path if source in {f"file {path}", MADE_UP} else None


def _has_key(gathered: Gathered) -> bool:
    """Tell whether a SECRET_KEY is given, was meant to be, or has to be: a Redis of others' has."""
    wrong = {problem.name for problem in gathered.problems}
    return bool(gathered.found.keys() & {"secret_key", "redis_url"} or wrong & {"SECRET_KEY"})


def _own_key_file(gathered: Gathered) -> Path:
    return Path(str(gathered.found["data_dir"].value)) / KEY_FILE


def _read_own_key(path: Path, gathered: Gathered) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        gathered.problems.append(problem_of("secret_key", f"can't be read: {reason}", str(path)))
    else:
        gathered.found["secret_key"] = Found(text.strip(), f"file {path}")


def _add_defaults(folder: Path, environ: Mapping[str, str], gathered: Gathered) -> None:
    """Work out the two defaults that depend on where we are; the rest stand in the table."""
    # A folder of the user's, not of the working directory: started from elsewhere, the service
    # must find the messages it had accepted. Source: XDG Base Directory Specification.
    data_home = environ.get("XDG_DATA_HOME", "").strip() or "~/.local/share"
    data_dir = str(_place(f"{data_home}/parley", Path.cwd(), environ))
    gathered.found["data_dir"] = Found(data_dir, DEFAULT)
    gathered.found["handlers"] = Found(str(folder / "handlers.py"), DEFAULT)


def _place(path: str, base: Path, environ: Mapping[str, str]) -> Path:
    if path == "~" or path.startswith("~/"):
        path = f"{environ.get('HOME', '').strip() or Path.home()}{path[1:]}"
    return base / path


def _note(
    field: str, value: str | float, source: str, base: Path, environ: Mapping[str, str]
) -> Found:
    """Note a value; a relative file or folder is meant from where it was written (`base`)."""
    is_path = field in {"data_dir", "connector_ca_file"} or (
        field == "handlers" and is_file_name(str(value).strip())
    )
    if isinstance(value, str) and is_path:
        value = str(_place(value.strip(), base, environ))
    return Found(value, source)


def _read_environment(environ: Mapping[str, str], gathered: Gathered) -> None:
    for name, field in CUSTOMARY.items():
        if environ.get(name, "").strip() and field not in gathered.found:
            gathered.found[field] = _note(field, environ[name], name, Path.cwd(), environ)
    for field in Settings.model_fields.keys() - {"config_dir"}:
        name = field.upper()
        if environ.get(name, "").strip():
            gathered.found[field] = _note(field, environ[name], "environment", Path.cwd(), environ)
        path = environ.get(f"{name}_FILE", "").strip()
        if path:
            _read_secret_file(field, path, environ, gathered)


def _read_secret_file(
    field: str, path: str, environ: Mapping[str, str], gathered: Gathered
) -> None:
    source = f"file {path}"
    try:
        text = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        gathered.problems.append(
            problem_of(field, f"can't be read from {field.upper()}_FILE={path}: {reason}", "")
        )
        return
    if text.strip():
        gathered.found[field] = _note(field, text, source, Path.cwd(), environ)
    else:
        gathered.problems.append(problem_of(field, "is empty", source))


def _read_settings_file(path: Path, environ: Mapping[str, str], gathered: Gathered) -> None:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        return
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))  # or "at end of document"
        place = f"{shown}:{line[1] if line else max(1, len(text.splitlines()))}"
        gathered.problems.append(Problem("", f"{place}: {error}"))
        return
    except (OSError, UnicodeError) as error:
        gathered.problems.append(Problem("", f"{shown}: can't be read: {error}"))
        return
    lines = _key_lines(text)
    for key, value in _flatten(tables):
        source = f"{shown}:{lines.get(key, 1)}"
        if key not in Settings.model_fields or key == "config_dir":
            gathered.problems.append(Problem("", f"{source}: {_unknown(key)}"))
        elif isinstance(value, bool) and Settings.model_fields[key].annotation is bool:
            gathered.found[key] = Found(str(value).lower(), source)
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            gathered.problems.append(problem_of(key, "must be text in quotes or a number", source))
        elif value != "":
            gathered.found[key] = _note(key, value, source, path.parent, environ)


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield settings by name; a table's name is the beginning of its settings' names."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


def _key_lines(text: str) -> dict[str, int]:
    """Find the line each key is set on, by name as `_flatten` makes it; tomllib does not tell."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = f"{header[1]}."
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            name = re.sub(r"[\s\"']", "", f"{table}{key[1]}").replace(".", "_")
            lines.setdefault(name, number)
    return lines


def _unknown(key: str) -> str:
    names = [name for name in Settings.model_fields if name != "config_dir"]
    nearest = difflib.get_close_matches(key.lower(), names, n=1)
    return f"unknown setting {key}" + (f"; the nearest name is {nearest[0]}" if nearest else "")


def problem_of(field: str, what: str, source: str) -> Problem:
    """Say what is wrong with a setting, where that was set, and how one looks that is right."""
    name = field.upper()
    origin = f" ({source})" if source else ""
    if source == DEFAULT:
        # It does not go with what another setting was given; an example would be the default again.
        return Problem(name, f"{name} {what}{origin}; set {name}", what)
    example = "".join((Settings.model_fields[field].examples or [])[:1])
    return Problem(name, f"{name} {what}{origin}; example: {name}={example}", what)
