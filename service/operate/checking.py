"""What a start would find wrong, found without one: neither Redis nor the connector is asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.errors import HandlersError, SettingsError
from service.operate.files import chosen_file, message_template, wanted_instance
from service.settings.loading import explain_settings, load_part
from service.settings.setup import load_given
from service.settings.sources import DEFAULT, wants_key
from service.settings.table import Settings


@dataclass(frozen=True, slots=True)
class LoadedHandlers:
    """What there is to say of loaded handlers: their routes in order, each with its `file:line`.

    doubts: about routes that are hardly ever reached, a sentence each.
    """

    routes: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What a start would load, and what it would say.

    problems: what keeps it from starting, each with what to do; of a handlers file, with the line
        itself below it. untyped: settings that nobody gave, and that may be typed once it runs.
    unchecked: files that can be looked at once the settings are right and whole.
    settings: how many there are; given: how many of them somebody has set. files: those it reads.
    handlers_at: the file or module of the handlers, "" where the setting itself is wrong.
    """

    problems: tuple[str, ...]
    untyped: tuple[str, ...]
    unchecked: tuple[str, ...]
    settings: int
    given: int
    files: tuple[Path, ...]
    handlers_at: str
    handlers: LoadedHandlers


def check(
    load_handlers: Callable[[str, Path], LoadedHandlers], find_needed: Callable[[Settings], object]
) -> Findings:
    """Load what a start would load, and go on after each mistake.

    load_handlers: takes HANDLERS and CONFIG_DIR; raises HandlersError. It runs the author's code.
    find_needed: finds what else the settings ask for on this machine; raises SettingsError.
    """
    rows = [row for row in explain_settings() if row.source]
    problems: list[str] = []
    untyped: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    files: list[Path] = []
    # A start makes one up; this one seals nothing.
    key = {"secret_key": "-" * 32} if wants_key(os.environ, {}) else {}
    try:
        given = load_given(options=key)
        untyped = given.missing({})
        settings = given.partial()
    except SettingsError as error:
        problems += error.problems
        unchecked = ("instance.json", "message.json")
    else:
        unchecked = ("instance.json",) if untyped else ()
        templates = (message_template,) if untyped else (wanted_instance, message_template)
        for look in (*templates, find_needed):
            try:
                look(settings)
            except SettingsError as error:
                problems += error.problems
        stems = ("message",) if untyped else ("instance", "message")
        files = [chosen_file(settings, stem) for stem in stems]
    handlers_at, handlers = "", LoadedHandlers()
    try:
        part = load_part(("handlers", "config_dir"))
        handlers_at = part.handlers
        handlers = load_handlers(handlers_at, part.config_dir)
    except SettingsError:
        pass  # It is among the problems.
    except HandlersError as error:
        problems.append(str(error))
    return Findings(
        problems=tuple(problems),
        untyped=tuple(each.upper() for each in untyped),
        unchecked=unchecked,
        settings=len(rows),
        given=sum(row.source != DEFAULT for row in rows),
        files=tuple(files),
        handlers_at=handlers_at,
        handlers=handlers,
    )
