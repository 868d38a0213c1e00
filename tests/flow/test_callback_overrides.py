"""Twilio's connection overrides: registered with the instance, and no part of what is signed."""

from __future__ import annotations

from tests.flow.conftest import fetch, until


def registered(deployment) -> list[tuple[int, str]]:
    """List the instances at the connector: id, and the fragment of the callback URL."""
    instances = fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances"]
    return [(each["id"], each["callback_url"].partition("#")[2]) for each in instances]


def test_twilio_fact_07_the_registered_url_asks_twilio_to_repeat_and_callbacks_still_verify(
    deployment,
):
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
