"""What the registered URL holds beside the address: connection overrides, and a login."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.flow.conftest import Deployment, fetch, until
from tests.flow.test_dead_letters import parley


def registered(deployment: Deployment) -> list[tuple[int, str]]:
    """List the instances at the connector: id, and the fragment of the callback URL."""
    instances = fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances"]
    return [(each["id"], each["callback_url"].partition("#")[2]) for each in instances]


def test_twilio_fact_07_the_registered_url_asks_twilio_to_repeat_and_callbacks_still_verify(
    deployment: Deployment,
) -> None:
    """A short outage of ours would lose callbacks, or the fragment would break every signature."""
    process = deployment.serve()
    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)
    ((id_, fragment),) = registered(deployment)
    assert fragment == "rc=5&rp=all"
    process.terminate()
    assert process.wait(15) == 0

    deployment.settings |= {"CALLBACK_RETRIES": "2", "CALLBACK_RETRY_POLICY": "rt, 5xx"}
    process = deployment.serve()
    until(lambda: registered(deployment) == [(id_, "rc=2&rp=5xx,rt")])
    assert deployment.text("hello again")["status"] == 200
    until(lambda: len(deployment.replies()) == 2)
    process.terminate()
    assert process.wait(15) == 0

    deployment.settings |= {"CALLBACK_RETRIES": "0"}
    deployment.serve()
    until(lambda: registered(deployment) == [(id_, "")])


@pytest.mark.long
def test_twilio_fact_13_a_login_in_the_public_url_is_registered_signed_and_shown_nowhere(
    deployment: Deployment,
) -> None:
    """A proxy that asks Twilio for a password would have every callback refused, or be told."""
    private = deployment.public.replace("://", "://twilio:heron-on-stilts@")
    deployment.settings |= {"PUBLIC_URL": private, "LOG_LEVEL": "debug"}
    planned = parley(deployment, "connector", "plan")
    deployment.serve()
    ((made),) = fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances"]
    assert made["callback_url"].startswith(f"{private}/")
    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)
    headers, body = deployment.signed("SM" + "1" * 32, "let me in")
    headers["X-Twilio-Signature"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
    answer = httpx.post(f"{deployment.public}/callbacks/twilio", content=body, headers=headers)
    assert answer.status_code == 403
    until(lambda: "signature refused" in deployment.log())

    shown = [planned, deployment.log(), str(fetch(f"{deployment.internal}/readyz"))]
    shown += [parley(deployment, "connector", what) for what in ("plan", "show")]
    shown += [parley(deployment, "connector", "show", "--json"), parley(deployment, "settings")]
    host = urlsplit(deployment.public).netloc
    assert f"http://********@{host}/callbacks/twilio" in planned
    assert f"http://********@{host}/callbacks/twilio" in shown[-2]
    kept = [path for path in Path(deployment.settings["DATA_DIR"]).rglob("*") if path.is_file()]
    assert kept, "Redis has written nothing yet"
    said = " ".join(shown) + " ".join(path.read_bytes().decode("latin-1") for path in kept)
    assert "heron-on-stilts" not in said
