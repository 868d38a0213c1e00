"""`parley bench` as people run it: a deployment of its own, and somebody else's."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from service.lab.demo import OUR_NUMBER, Demo
from tests.programs import bare_environ

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `parley bench` without any settings of the user's."""
    ran = subprocess.run(
        [sys.executable, "-m", "service", "bench", *arguments],
        env=bare_environ(HOME="/nonexistent"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_deployment_of_its_own_loses_doubles_and_reorders_nothing(processes: int) -> None:
    """The promises, at the speed at which they are advertised."""
    ran = bench("--messages", "300", "--rate", "0", "--processes", str(processes), "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)

    assert found["promises"] == {
        "lost": 0,
        "doubled": 0,
        "out_of_order": 0,
        "forged": 0,
        "duplicates_refused": 0,
    }
    assert found["answers"] == {
        "new": {"200": 300},
        "duplicate": {"200": 3},
        "forged": {"403": 3},
    }
    assert found["accepted"] == 300
    assert {each["name"] for each in found["targets"]} >= {"lost", "Redis round trips a message"}
    assert 0 < found["acknowledged"]["p50"] <= found["acknowledged"]["p99"]
    assert 0 < found["to_connector"]["p50"] <= found["to_connector"]["p99"]
    # Accept, begin, settle and sent: with less, a process was not counted. The run ends when the
    # connector has the last reply, so that some of the last `sent` may still be on their way.
    assert found["script_calls_per_message"] > 3.5
    assert 0 < found["trips_per_message"] < found["script_calls_per_message"]
    if sys.platform == "linux":
        served = next(each for each in found["usage"] if each["name"] == "parley serve")
        assert served["processes"] == processes
        assert 0 < served["idle_pss_mb"] <= served["idle_rss_mb"]
        assert found["cpu_s"]["parley serve"] > 0


def test_the_targets_are_run_on_a_deployment_of_their_own() -> None:
    """Pointed at a deployment that people use, they would flood it."""
    ran = bench("--targets", "--url", "http://127.0.0.1:1")

    assert ran.returncode == 2
    assert "leave out --url" in ran.stderr


def test_nothing_there_is_told_in_a_line() -> None:
    """A wrong port is the commonest mistake."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ran = bench("--url", url, "--token", "x", "--account", "AC1", "--to", "+15005550100")

    assert ran.returncode == 1
    assert "nothing answers there" in ran.stderr


def test_without_the_token_the_missing_settings_are_named() -> None:
    """Otherwise callbacks are signed with nothing, and refused."""
    ran = bench("--url", "http://127.0.0.1:1")

    assert ran.returncode == 2
    assert "TWILIO_AUTH_TOKEN is missing" in ran.stderr


def test_a_running_deployment_is_measured_with_its_token_and_refuses_another() -> None:
    """People measure what they have deployed, with the handlers they have."""
    with Demo(None, Console(file=io.StringIO())) as demo:
        theirs = ("--url", demo.addresses.public, "--account", demo.account_sid, "--to", OUR_NUMBER)
        load = ("--seconds", "1", "--rate", "100", "--json")
        logs = ("--connector-log", demo.addresses.sandbox, "--internal", demo.addresses.internal)
        wrong = bench(*theirs, *load, "--token", "wrong")
        right = bench(*theirs, *load, *logs, "--token", demo.auth_token)

    assert wrong.returncode == 1
    assert "refused (403)" in wrong.stderr
    assert right.returncode == 0, right.stderr
    found = json.loads(right.stdout)
    assert found["promises"]["lost"] == found["promises"]["out_of_order"] == 0
    assert found["accepted"] == 98  # With one duplicate and one bad signature, 100 in a second.
    assert found["script_calls_per_message"] >= 4
    assert any("CPU and memory" in note for note in found["notes"])
