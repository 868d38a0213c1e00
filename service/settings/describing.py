"""The settings described for people: the text of `docs/settings.md`, made from the table alone."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from service.settings.table import SET_UP_BY, Settings

HEAD = """# Settings

From the weakest to the strongest: the default, the setup, `config/service.toml` (names in lower
case), the environment, a secret file (`NAME_FILE=/run/secrets/x`), and the command line. `parley
settings` shows all of them but the setup with their source, secrets masked. What is *required, or
typed* may be left out, and typed while the service runs: by `parley connect` or in [the
console](console.md). A start with missing or malformed ones lists every problem and exits 2. A name
that ends in `_S` is a time in seconds.

This page is what `parley settings --markdown` prints.

| setting | default | what it means |
|---|---|---|
"""

FOOT = """
The files of `config/` are explained in [going live](going-live.md).
"""


def settings_as_markdown() -> str:
    """Describe every setting: its name, its default, what it means. Markdown, a row for each."""
    rows = (
        f"| `{field.upper()}` | {_default(field, info)} | {info.description} |\n"
        for field, info in Settings.model_fields.items()
    )
    return HEAD + "".join(rows) + FOOT


def _default(field: str, info: FieldInfo) -> str:
    if info.is_required():
        return "required, or typed" if field in SET_UP_BY else "required"
    if info.default is None or info.default == "":
        return "none"
    if isinstance(info.default, bool):
        return f"`{str(info.default).lower()}`"
    return f"`{info.default:.10g}`" if isinstance(info.default, float) else f"`{info.default}`"
