"""What the guides tell people to type, typed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from service.cli.app import app
from service.handlers.loading import load_router

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block of code: the file that a reader is to make of it, if any; its language; its text."""


def blocks_of(guide: Path) -> list[tuple[str, str, str]]:
    """Read a guide's blocks of code as `BLOCK` groups them."""
    return BLOCK.findall(guide.read_text(encoding="utf-8"))


def files_of(guide: Path) -> dict[str, str]:
    """Read the files that a guide tells its reader to write."""
    return {name: text for name, _, text in blocks_of(guide) if name}


WITH_FILES = [guide for guide in GUIDES if files_of(guide)]
WITH_TESTS = [
    guide for guide in WITH_FILES if any("def test_" in t for t in files_of(guide).values())
]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_block_is_well_formed(guide: Path) -> None:
    """Copied code ends in a SyntaxError."""
    text = guide.read_text(encoding="utf-8")
    blocks = blocks_of(guide)

    # None is overlooked, and no mark is lost between a comment and its block.
    assert len(blocks) == len(re.findall(r"^```\w", text, re.MULTILINE))
    assert len([name for name, _, _ in blocks if name]) == text.count("<!-- file:")
    for name, language, code in blocks:
        if language == "python":
            compile(code, name or guide.name, "exec")
        elif language == "toml":
            tomllib.loads(code)


@pytest.mark.parametrize("guide", WITH_FILES, ids=lambda guide: guide.name)
def test_every_handlers_file_is_loaded_without_a_doubt(guide: Path, tmp_path: Path) -> None:
    """The example that people begin with does not start, or warns at once."""
    loaded = 0
    for name, text in files_of(guide).items():
        if "Router()" in text:
            (tmp_path / name).write_text(text)
            assert load_router(name, tmp_path).doubts == []
            loaded += 1
    assert loaded or guide.name not in {"README.md", "handlers.md"}


@pytest.mark.parametrize("guide", WITH_TESTS, ids=lambda guide: guide.name)
def test_the_tests_of_a_guide_pass_as_written(
    guide: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader's first test fails."""
    for name in ("CONFIG_DIR", "HANDLERS", "HANDLERS_FILE", "TWILIO_SENDER"):
        monkeypatch.delenv(name, raising=False)
    files = files_of(guide)
    for name, text in files.items():
        (pytester.path / name).write_text(text)
    tests = sum(
        len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE))
        for name, text in files.items()
        if name.startswith("test_")
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")

    result.assert_outcomes(passed=tests)
    assert tests


def test_the_guide_of_handlers_has_tests() -> None:
    """The one above would hold nothing."""
    assert "handlers.md" in [guide.name for guide in WITH_TESTS]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_command_exists_with_its_options(guide: Path) -> None:
    """A reader types a command that was renamed."""
    for _, language, code in blocks_of(guide):
        if language not in {"sh", "bash", "console"}:
            continue
        for line in re.findall(r"^(?:\$ )?parley +([^#\n]+)", code, re.MULTILINE):
            command = typer.main.get_command(app)
            for word in line.split():
                commands = getattr(command, "commands", {})
                if commands and not word.startswith("-"):
                    assert word in commands, line
                    command = commands[word]
                elif word.startswith("--"):
                    options = {each for param in command.params for each in param.opts}
                    assert word.partition("=")[0] in options, line
