"""What is shipped: the wheel's content, the pins, the image's recipe, the CI's command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from coverage import CoverageData

from tests.programs import MEASURES, bare_environ

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
CI = ROOT / ".ci" / "run"

NOT_SHIPPED = {"pin", "constraints.txt", "requirements.txt", "build-requirements.txt", "deploy"}
"""What of config/ makes, tests or deploys the package and is no use once it is installed."""


HASHED = ("requirements.txt", "build-requirements.txt")
"""What the image installs: to run, and to build the wheel."""


def pins_of(name: str) -> dict[str, str]:
    """Read a pin file: distribution, with its marker, -> version."""
    text = (CONFIG / name).read_text(encoding="utf-8")
    lines = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)\s*(;[^\\\n]+)?", text, flags=re.MULTILINE)
    return {
        f"{distribution} {marker.strip()}".strip(): version
        for distribution, version, marker in lines
    }


def written() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> list[list[str]]:
    """List what the package, each of its extras and each group of its developers asks for."""
    table = written()
    project = table["project"]
    extras = project["optional-dependencies"].values()
    return [project["dependencies"], *extras, *table["dependency-groups"].values()]


def wanted(requirements: list[str]) -> set[str]:
    """Name the distributions that a list of requirements asks for."""
    return {re.split(r"[\[>=<;~! ]", requirement)[0] for requirement in requirements}


# --- pins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["constraints.txt", *HASHED])
def test_a_pin_file_names_no_index(name: str) -> None:
    """Otherwise an installation asks somebody else's registry, which may not answer."""
    text = (CONFIG / name).read_text(encoding="utf-8")

    assert not re.search(r"://|--(extra-)?index|--find-links|-i |-f |@ ", text)


@pytest.mark.parametrize("name", HASHED)
def test_what_is_tested_is_what_is_shipped(name: str) -> None:
    """Otherwise the image runs, or is built by, versions that no test has seen."""
    # Without their markers: a pin for one platform may be one for every platform's tests.
    tested, shipped = (
        {(name.split()[0], version) for name, version in pins_of(file).items()}
        for file in ("constraints.txt", name)
    )

    assert shipped
    assert shipped <= tested


@pytest.mark.parametrize("name", HASHED)
def test_every_shipped_pin_carries_hashes(name: str) -> None:
    """Otherwise the image takes whatever a registry hands out under the right name."""
    text = (CONFIG / name).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())

    assert len(entries) == len(pins_of(name))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_dependency_is_pinned() -> None:
    """Otherwise `config/pin` was forgotten after a change of dependencies."""
    tested = {name.split()[0] for name in pins_of("constraints.txt")}
    shipped = {name.split()[0] for name in pins_of("requirements.txt")}

    assert wanted(written()["project"]["dependencies"]) <= shipped
    builders = written()["build-system"]["requires"]
    assert wanted(builders) <= pins_of("build-requirements.txt").keys()
    assert set().union(*map(wanted, requirements())) <= tested


def test_every_dependency_has_a_lower_bound() -> None:
    """Otherwise pip keeps an ancient version that somebody's environment happens to hold."""
    assert len(requirements()) == 3
    assert all(">=" in line for lines in requirements() for line in lines)


def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    """Otherwise CI shows that other versions work than those that pip may choose."""
    command = [sys.executable, str(ROOT / ".ci" / "lowest.py")]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    project, tests = requirements()[:2]

    lines = ran.stdout.splitlines()
    assert {line.split("==")[0] for line in lines} == wanted([*project, *tests])
    assert len(lines) == len(project) + len(tests)
    aiohttp = next(line for line in project if line.startswith("aiohttp"))
    assert aiohttp.replace(">=", "==") in lines


def test_what_only_developers_need_is_no_part_of_the_package() -> None:
    """Otherwise who installs Parley is offered its linters."""
    extras = written()["project"]["optional-dependencies"]

    assert {"mypy", "ruff", "uv"} <= wanted(written()["dependency-groups"]["dev"])
    assert extras.keys() == {"test"}


# --- the wheel -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*command, "--directory", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_code_scripts_pages_and_the_operators_files(wheel: Path) -> None:
    """Otherwise `pip install parley-sms` gives a service that can't start."""
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}

    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "service").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    operators = {
        f"service/_config/{path.relative_to(CONFIG)}"
        for path in CONFIG.rglob("*")
        if path.is_file()
        and path.relative_to(CONFIG).parts[0] not in NOT_SHIPPED
        and "__pycache__" not in path.parts
    }
    assert {"service/_config/service.toml", "service/settings/table.py"} <= carried
    assert carried == package | operators


def test_an_installed_package_reads_the_files_it_carries(wheel: Path, tmp_path: Path) -> None:
    """Otherwise the service works in a checkout alone."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    code = "from service.settings.sources import config_dir; print(config_dir({}))"
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"]
    found = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    assert found.stdout.strip() == str(site / "service" / "_config")


# --- the image and the CI --------------------------------------------------------------------


def test_everything_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    """Otherwise `docker build` fails on its first COPY."""
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        line.split()[1:-1] for line in re.findall(r"^COPY (?!--from).*", recipe, re.MULTILINE)
    ]
    sources = {source for sources in copied for source in sources}
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert {"service", "config", "config/requirements.txt"} <= sources
    assert all((ROOT / source).exists() for source in sources)
    assert {source.split("/")[0] for source in sources} == kept


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    """Otherwise the same recipe gives another image tomorrow, or a break-in gives root."""
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert re.findall(r"^FROM (\S+)", recipe, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", recipe, re.MULTILINE)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image)
    assert re.search(r"^USER 10001:10001$", recipe, re.MULTILINE)
    installs = re.findall(r"pip install (.+?)(?: \\)?$", recipe, re.MULTILINE)
    by_hash = {f"--require-hashes -r config/{name}" for name in HASHED}
    # And the wheel that was just built, with no index to take anything else from.
    assert set(installs) == by_hash | {"--no-deps --no-index dist/*.whl"}


def test_the_readme_holds_the_command_that_ci_runs() -> None:
    """Otherwise CI tests something other than what a newcomer types."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(
        r"^<!-- test command -->\n```sh\n(.+?)\n```$", readme, re.MULTILINE | re.DOTALL
    )

    assert "-c config/constraints.txt" in command
    assert command.endswith("pytest")


def test_processes_that_tests_start_are_measured_too(tmp_path: Path) -> None:
    """Otherwise the floor of coverage is that of what runs inside the tests' own process."""
    measured = {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml")}
    environ = bare_environ() | measured | {"COVERAGE_FILE": str(tmp_path / "lines")}
    command = [sys.executable, "-m", "service", "settings", "--markdown"]
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True)

    (lines,) = tmp_path.glob("lines.*")
    data = CoverageData(str(lines))
    data.read()
    assert str(ROOT / "service" / "settings" / "table.py") in data.measured_files()
    assert set(MEASURES) <= set(re.findall(r"COVERAGE_\w+", CI.read_text("utf-8")))


def test_what_runs_before_a_commit_is_what_ci_runs() -> None:
    """Otherwise a commit passes here and fails there, or tools are fetched from elsewhere."""
    (listed,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    ci = re.findall(
        r'^ *"\$\{empty\[@\]\}" (\.venv/bin/(?:ruff|mypy) .+)$', CI.read_text("utf-8"), re.MULTILINE
    )

    assert listed["repo"] == "local"
    assert [hook["entry"] for hook in listed["hooks"]] == ci
    assert len(ci) == 3
