"""A service that starts with nothing, and is set up while it runs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.flow.conftest import ROOT, Deployment, fetch, until
from tests.programs import bare_environ

SETUP = (
    "OPEN_CONNECTORS_BASE_URL",
    "OPEN_CONNECTORS_USER_SECRET",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET",
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_SENDER",
)

IN_USE_S = 4.0
"""What a setup may take to be in use: two seconds, and as much again for a busy machine."""


@pytest.fixture
def typed(deployment: Deployment) -> dict[str, Any]:
    """What is left out of the deployment's settings, as a file that `parley connect` reads."""
    given = {name: deployment.settings.pop(name) for name in SETUP}
    return {
        "openConnectors": {
            "baseUrl": given["OPEN_CONNECTORS_BASE_URL"],
            "userSecret": given["OPEN_CONNECTORS_USER_SECRET"],
            "organizationSecret": given["OPEN_CONNECTORS_ORGANIZATION_SECRET"],
        },
        "configuration": {
            "messaging.sms.twilio.account": given["TWILIO_ACCOUNT_SID"],
            "messaging.sms.twilio.token": given["TWILIO_AUTH_TOKEN"],
            "messaging.sms.twilio.sender": given["TWILIO_SENDER"],
        },
    }


def connect(deployment: Deployment, typed: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """Put a setup in use as an operator does, beside the service; returns what was said."""
    file = deployment.folder / "setup.json"
    file.write_text(json.dumps(typed))
    environ = bare_environ("HOME", CONFIG_DIR=str(ROOT / "config"))
    ran = subprocess.run(
        [sys.executable, "-m", "service", "connect", *arguments]
        + ([] if arguments else ["--file", str(file), "--yes"])
        + ["--json"],
        env=environ | deployment.settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(json.loads(ran.stdout))


def checks(deployment: Deployment) -> dict[str, Any]:
    """What /readyz says, by its parts."""
    return dict(fetch(f"{deployment.internal}/readyz")[1]["checks"])


def instances(deployment: Deployment) -> list[dict[str, Any]]:
    """Every instance the connector has, by its own records."""
    return list(fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances"])


def looked(deployment: Deployment) -> bool:
    """Whether the service knows that it is not set up; it may not listen yet."""
    try:
        return "not set up" in str(checks(deployment)["setup"]["detail"])
    except OSError:
        return False


def signed_by(deployment: Deployment, token: str, sid: str) -> int:
    """Post a callback that is signed with a token; returns the answer's status."""
    former, deployment.auth_token = deployment.auth_token, token
    deployment.settings["TWILIO_ACCOUNT_SID"] = "AC" + "0" * 32
    try:
        return deployment.post(*deployment.signed(sid, "echo hello"))
    finally:
        deployment.auth_token = former
        del deployment.settings["TWILIO_ACCOUNT_SID"]


def test_a_service_that_starts_with_nothing_answers_texts_once_it_is_set_up(
    deployment: Deployment, typed: dict[str, Any]
) -> None:
    """Who has no account at hand could not start it, or would have to start it again."""
    deployment.serve(ready=False)
    until(lambda: looked(deployment))
    answer = httpx.post(f"{deployment.public}/callbacks/twilio", data={"Body": "early"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert fetch(f"{deployment.internal}/readyz")[0] == 503
    assert fetch(f"{deployment.internal}/counters")[1]["callbacks_not_set_up"] == 1
    assert instances(deployment) == []

    assert connect(deployment, typed)["version"] == 1
    until(lambda: checks(deployment)["instance"]["ok"], within_s=IN_USE_S)
    assert checks(deployment)["setup"]["detail"] == "version 1"
    assert deployment.text("echo at last")["status"] == 200
    until(lambda: deployment.bodies() == ["at last"])

    lines = [json.loads(line) for line in deployment.log().splitlines() if line.startswith("{")]
    said = [line["event"] for line in lines]
    assert (said.count("not set up"), said.count("set up")) == (1, 1)
    for secret in (deployment.auth_token, *deployment.account.values()):
        assert secret not in deployment.log()


def test_a_new_auth_token_is_taken_beside_the_former_one_until_that_is_retired(
    deployment: Deployment, typed: dict[str, Any]
) -> None:
    """Texts that Twilio signs with the other token would be refused while tokens are changed."""
    former, new = deployment.auth_token, "ab" * 16
    deployment.serve(ready=False)
    connect(deployment, typed)
    until(lambda: signed_by(deployment, former, "SM" + "1" * 32) == 200)
    assert signed_by(deployment, new, "SM" + "2" * 32) == 403
    until(lambda: checks(deployment)["instance"]["ok"])

    typed["configuration"]["messaging.sms.twilio.token"] = new
    assert connect(deployment, typed)["version"] == 2
    until(lambda: signed_by(deployment, new, "SM" + "3" * 32) == 200, within_s=IN_USE_S)
    assert signed_by(deployment, former, "SM" + "4" * 32) == 200
    # The sandbox signs with what the instance has.
    until(lambda: deployment.text("echo with the new one")["status"] == 200)
    until(lambda: "with the new one" in deployment.bodies())
    assert len(instances(deployment)) == 1

    assert connect(deployment, typed, "--retire-token")["version"] == 3
    until(lambda: signed_by(deployment, former, "SM" + "5" * 32) == 403, within_s=IN_USE_S)
    assert signed_by(deployment, new, "SM" + "6" * 32) == 200


def processes_of(deployment: Deployment) -> set[int]:
    """The processes that answer at the internal port, by their counters."""
    return {fetch(f"{deployment.internal}/counters")[1]["pid"] for _ in range(20)}


@pytest.mark.long
def test_every_process_takes_the_setup_and_one_makes_the_instance(
    deployment: Deployment, typed: dict[str, Any]
) -> None:
    """Every other callback would be refused, or each process make an instance of its own."""
    deployment.serve("--processes", "2", ready=False)
    until(lambda: looked(deployment))
    until(lambda: len(processes_of(deployment)) == 2)
    connect(deployment, typed)

    def taken() -> bool:
        return {checks(deployment)["setup"]["detail"] for _ in range(20)} == {"version 1"}

    until(taken, within_s=IN_USE_S)
    until(lambda: all(checks(deployment)["instance"]["ok"] for _ in range(20)))
    assert {signed_by(deployment, deployment.auth_token, f"SM{n:032x}") for n in range(20)} == {200}
    assert len(instances(deployment)) == 1


def test_without_a_secret_key_one_is_made_up_with_the_redis_of_our_own_and_used_again(
    deployment: Deployment, typed: dict[str, Any]
) -> None:
    """Somebody who tries it out would be sent away, or lose the setup by a new start."""
    del deployment.settings["SECRET_KEY"]
    first = deployment.serve("--processes", "2", ready=False)
    until(lambda: looked(deployment))
    connect(deployment, typed)
    deployment.wait_until_ready(first)
    first.terminate()
    assert first.wait(15) == 0
    file = deployment.folder / "data" / "secret.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = file.read_text().strip()
    assert len(key) == 64
    said = [line for line in deployment.log().splitlines() if "one was made up" in line]
    assert [json.loads(line)["file"] for line in said] == [str(file)]
    assert key not in deployment.log()

    deployment.serve("--processes", "2")
    assert checks(deployment)["setup"]["detail"] == "version 1"
    assert "instance reused" in deployment.log()
    assert deployment.log().count("one was made up") == 1
    assert file.read_text().strip() == key


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_terminal_is_shown_the_way_in_and_no_log_is(
    deployment: Deployment, typed: dict[str, Any], processes: str
) -> None:
    """Whoever has just started it would have to read the docs, or a log would let anybody in."""
    ours, theirs = pty.openpty()
    fds = [str(each.fileno()) for each in deployment.listeners]
    arguments = ["--processes", processes, "--fd", fds[0], "--internal-fd", fds[1]]
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", *arguments],
        env=bare_environ("HOME", CONFIG_DIR=str(ROOT / "config")) | deployment.settings,
        pass_fds=[each.fileno() for each in deployment.listeners],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    deployment.processes.append(process)
    os.close(theirs)
    said = ""
    while "parley connect" not in said and select.select([ours], [], [], 30)[0]:
        said += os.read(ours, 65536).decode()
    (address,) = re.findall(r"\S+/console/sign-in\?token=\S+", said)
    assert address.startswith(f"{deployment.internal}/console/")
    assert "not set up" in said
    with httpx.Client(trust_env=False, follow_redirects=True) as browser:
        page = browser.get(address)
        assert page.status_code == 200
        assert "Sign in" in page.text
    (token,) = re.findall(r"token=(\S+)", address)
    logged = [line for line in said.splitlines() if line.startswith("{")]
    assert logged
    assert not any(token in line for line in logged)
    process.terminate()
    process.wait(15)
    os.close(ours)


@pytest.mark.long
def test_killed_before_the_connector_has_answered_it_finds_its_instance_again(
    deployment: Deployment, typed: dict[str, Any]
) -> None:
    """Each such death would leave an instance behind, whose callbacks nobody answers."""
    service = deployment.serve("--processes", "2", ready=False)
    until(lambda: looked(deployment))
    until(lambda: len(processes_of(deployment)) == 2)
    everyone = {service.pid, *processes_of(deployment)}
    # What is asked is done at once, and answered late.
    deployment.trouble(where="instances", latency_ms=1500, count=-1)
    connect(deployment, typed)
    until(lambda: instances(deployment))
    for each in everyone:
        os.kill(each, signal.SIGKILL)
    service.wait()
    assert "instance created" not in deployment.log()

    deployment.trouble(count=0)
    deployment.serve("--processes", "2", ready=False)
    # The lock of whoever was killed runs out after half a minute.
    until(lambda: "instance adopted" in deployment.log(), within_s=60)
    until(lambda: all(checks(deployment)["instance"]["ok"] for _ in range(20)))
    assert len(instances(deployment)) == 1
    assert deployment.text("echo alive")["status"] == 200
    until(lambda: deployment.bodies() == ["alive"])
