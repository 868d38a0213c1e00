"""`eval "$(parley sandbox --env)"` and `parley serve`, as a newcomer types them: real processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.conftest import fetch, listener, until
from tests.programs import bare_environ

PARLEY = f'"{sys.executable}" -m service'


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder whose name is as short as people's are: a Unix socket's path is bounded."""
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        yield Path(folder)


def environ(home: Path, **more: str) -> dict[str, str]:
    """A newcomer's environment."""
    return bare_environ(HOME=str(home), **more)


def printed(home: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `parley sandbox --env`."""
    return subprocess.run(
        [sys.executable, "-m", "service", "sandbox", "--env", *options],
        env=environ(home, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> str:
    """A port that nobody listens on, for a process that is told of it by a setting."""
    with listener() as taken:
        return str(taken.getsockname()[1])


@pytest.mark.parametrize(
    "quote",
    [
        pytest.param('"', id="quoted"),
        pytest.param("", id="unquoted", marks=pytest.mark.long),
    ],
)
def test_a_newcomers_two_shells_answer_a_text(home: Path, tmp_path: Path, quote: str) -> None:
    """The first thing that a stranger tries would end in a list of missing settings."""
    sandbox, serve = free_port(), free_port()
    options = f"--port {sandbox} --serve-port {serve}"
    shells = (
        f"exec {PARLEY} sandbox --port {sandbox}",
        f"eval {quote}$({PARLEY} sandbox --env {options}){quote}; exec {PARLEY} serve",
    )
    log = tmp_path / "log"
    # Another Redis and a setting's misspelt name are what a shell that is in use has.
    given = environ(home, REDIS_URL="redis://127.0.0.1:1/0", HANDLER_TIMEOUTS_S="60")
    started = []
    with log.open("ab") as output:
        for shell in shells:
            command = ["sh", "-c", shell]
            started.append(subprocess.Popen(command, env=given, stdout=output, stderr=output))
    address = f"http://127.0.0.1:{sandbox}/sandbox"

    def provisioned() -> bool:
        assert [process.poll() for process in started] == [None, None], log.read_text()
        try:
            return bool(fetch(f"{address}/records")[1]["instances"])
        except OSError:
            return False

    try:
        until(provisioned, within_s=60)
        assert fetch(f"{address}/texts", {"from": "+15005550123", "body": "hello"})[0] == 200
        until(lambda: fetch(f"{address}/records")[1]["replies"], within_s=60)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)
    assert "HANDLER_TIMEOUTS_S is no setting; did you mean HANDLER_TIMEOUT_S?" in log.read_text()
    # What is kept in earnest is left alone.
    kept = [each.name for each in (home / ".local/share").iterdir()]
    assert kept == [f"parley-sandbox-{sandbox}"]


def test_every_shell_is_told_the_same_and_another_port_something_else(tmp_path: Path) -> None:
    """Two shells that disagree about a secret refuse each other."""
    first, second = printed(tmp_path), printed(tmp_path, TWILIO_AUTH_TOKEN="x", LANG="C")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == second.stdout
    assert all(line.startswith("export ") for line in first.stdout.splitlines())
    assert "export OPEN_CONNECTORS_BASE_URL=http://127.0.0.1:9090/elements/api-v2\n" in first.stdout
    assert "export PUBLIC_URL=http://127.0.0.1:8080\n" in first.stdout
    assert printed(tmp_path, "--port", "9091").stdout != first.stdout


def test_a_secret_that_was_given_is_not_printed(tmp_path: Path) -> None:
    """A shell that has the real ones would print them on the screen."""
    ran = printed(tmp_path, OPEN_CONNECTORS_USER_SECRET="heron")
    assert ran.returncode == 0
    assert "heron" not in ran.stdout + ran.stderr
    assert "OPEN_CONNECTORS_USER_SECRET" not in ran.stdout
    assert "OPEN_CONNECTORS_USER_SECRET stays as it is" in ran.stderr
    assert "export OPEN_CONNECTORS_ORGANIZATION_SECRET=sandbox-organization\n" in ran.stdout


def test_a_free_port_is_known_to_nobody_before(tmp_path: Path) -> None:
    """Settings that name port 0 lead nowhere."""
    ran = printed(tmp_path, "--port", "0")
    assert ran.returncode == 2
    assert "--env" in ran.stderr
