"""A text and a report reach us in every way there is, and count once."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from tests.flow.conftest import ROOT, Deployment, fetch, until

KEY = "signature-key-of-the-instance"


def test_a_text_announced_by_form_and_by_event_is_answered_once(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A person would be answered twice where the platform relays what Twilio sends as well."""
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    instance = json.loads((config / "instance.json").read_text())
    instance["configuration"]["event.notification.signature.key"] = KEY
    (config / "instance.json").write_text(json.dumps(instance))
    deployment.settings |= {"EVENT_SIGNATURE_KEY": KEY}
    deployment.serve(CONFIG_DIR=str(config))
    for place, relay in enumerate(("off", "instead", "both")):
        assert fetch(f"{deployment.sandbox}/sandbox/switches", {"relay": relay})[0] == 200
        assert deployment.text(f"echo {relay}")["status"] == 200
        until(lambda count=place + 1: len(deployment.bodies()) == count)
    time.sleep(0.5)
    assert deployment.bodies() == ["off", "instead", "both"]
    counted = fetch(f"{deployment.internal}/counters")[1]
    assert (counted["callbacks_accepted"], counted["callbacks_duplicates"]) == (3, 1)


def test_reports_on_replies_are_taken_and_a_lost_one_is_told(deployment: Deployment) -> None:
    """A reply that the carrier dropped would look sent for ever."""
    deployment.serve()
    switches = f"{deployment.sandbox}/sandbox/switches"
    assert fetch(switches, {"status_callbacks": "undelivered"})[0] == 200
    deployment.text("echo lost")
    until(lambda: fetch(f"{deployment.internal}/counters")[1]["callbacks_statuses"] == 2)
    until(lambda: "a reply did not reach its phone" in deployment.log())
    assert '"twilio_error": "30003"' in deployment.log()


def test_open_connectors_fact_18_texts_that_only_polling_tells_of_are_answered_once(
    deployment: Deployment,
) -> None:
    """Who has the newer connector, whose events are polled, would get no answers, or two."""
    deployment.settings |= {"CONNECTOR_ELEMENT": "twiliov2", "EVENT_SIGNATURE_KEY": KEY}
    deployment.serve(TWILIO_SENDER="+15005550006")
    assert fetch(f"{deployment.sandbox}/sandbox/switches", {"relay": "polled"})[0] == 200
    for body in ("echo one", "echo two"):
        assert deployment.text(body)["state"] == "accepted"
    assert deployment.bodies() == []

    (told,) = fetch(f"{deployment.sandbox}/sandbox/poll", {})[1]["polled"]
    until(lambda: len(deployment.bodies()) == 2)
    # The next event has our own two replies in it.
    (again,) = fetch(f"{deployment.sandbox}/sandbox/poll", {})[1]["polled"]
    time.sleep(0.5)

    assert (told["rows"], told["status"]) == (2, 200)
    assert (again["rows"], again["status"]) == (2, 200)
    assert deployment.bodies() == ["one", "two"]
