"""The pytest plugin: the fixture `phones`, for the tests of a handlers file.

Every run of pytest loads it wherever Parley is installed, so it imports what it needs when the
fixture is used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from service.handlers.router import Router
    from service.handlers.testing import Engine, Phones
    from service.settings.table import Settings

HANDLERS = "parley_handlers"
"""The ini option."""

SENDER = "+15005550100"
"""Our number where TWILIO_SENDER is not set: one of Twilio's for tests."""

FIELDS = (
    "handler_attempts",
    "handler_concurrency",
    "handler_timeout_s",
    "long_replies",
    "opt_out_words",
    "twilio_sender",
)
"""The settings that count; the others, secrets among them, may be missing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(
        HANDLERS,
        "Parley's handlers: a file, relative to this one, or a module (default: HANDLERS)",
        default="",
    )


@pytest.fixture(scope="session")
def _parley_settings() -> Settings:
    return _read(FIELDS)


@pytest.fixture(scope="session")
def _parley_router(pytestconfig: pytest.Config) -> Router:
    from service.errors import HandlersError
    from service.handlers.loading import load_router

    target = pytestconfig.getini(HANDLERS).strip() or _read(("handlers",)).handlers
    folder = pytestconfig.inipath.parent if pytestconfig.inipath else pytestconfig.rootpath
    try:
        return load_router(target, folder)
    except HandlersError as error:
        pytest.fail(str(error), pytrace=False)


def _read(fields: Collection[str]) -> Settings:
    from service.errors import SettingsError
    from service.settings.loading import load_part

    try:
        return load_part(fields)
    except SettingsError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def _parley_engine(_parley_settings: Settings) -> Iterator[Engine]:
    import uvloop

    from service.handlers.testing import Engine

    with Engine(uvloop.new_event_loop, _parley_settings.handler_concurrency) as engine:
        yield engine


@pytest.fixture
def phones(_parley_settings: Settings, _parley_router: Router, _parley_engine: Engine) -> Phones:
    """Phones that text your handlers: `phones("+15551230001").send("BALANCE")`.

    `send` returns the texts received in answer and raises what the handler raised. A phone has all
    it received as `received` (texts) and `replies` (with pictures); `phones.dead_letters` has what
    was given up.
    """
    from service.handlers.testing import Phones

    return Phones(
        _parley_router,
        _parley_engine,
        sender=_parley_settings.twilio_sender or SENDER,
        timeout_s=_parley_settings.handler_timeout_s,
        attempts=_parley_settings.handler_attempts,
        long_replies=_parley_settings.long_replies,
        opt_out_words=_parley_settings.words_left_to_twilio,
    )
