"""The other connector, twiliov2, by its setting."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.flow.conftest import ROOT, Deployment, fetch, until
from tests.flow.test_connector import platform
from tests.flow.test_dead_letters import parley


def instances(deployment: Deployment) -> list[str]:
    """List the connector's own names of what the instances are made of."""
    return [each["element"]["key"] for each in platform(deployment, "GET", "/instances")]


def test_open_connectors_fact_12_a_text_is_answered_through_twiliov2(
    deployment: Deployment,
) -> None:
    """Who has the newer connector can't use Parley."""
    deployment.settings |= {"CONNECTOR_ELEMENT": "twiliov2"}
    process = deployment.serve()
    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)
    (reply,) = deployment.replies()
    assert reply["token_ok"]
    assert instances(deployment) == ["twiliov2"]
    (registered,) = fetch(f"{deployment.sandbox}/sandbox/records")[1]["instances"]
    assert registered["callback_url"] == f"{deployment.public}/callbacks/twilio"
    process.terminate()
    assert process.wait(15) == 0

    # The other connector needs an instance of its own, and none of its entries in the first.
    deployment.settings |= {"CONNECTOR_ELEMENT": "twilio"}
    deployment.serve()
    until(lambda: instances(deployment) == ["twiliov2", "twilio"])
    first = platform(deployment, "GET", "/instances")[0]
    assert not [entry for entry in first["configuration"] if entry.startswith("messaging.")]
    assert deployment.text("hello again")["status"] == 200
    until(lambda: len(deployment.replies()) == 2)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        pytest.param(
            "instance.json",
            (ROOT / "config" / "instance.json").read_text() + "\n",
            "instance.json: element.key is twilio, but CONNECTOR_ELEMENT is twiliov2",
            id="an edited file for the other connector",
        ),
        pytest.param(
            "instance.twiliov2.json",
            '{"element": {"key": "twiliov2"}, "name": "x"}',
            "instance.twiliov2.json: the required entry username (setting TWILIO_ACCOUNT_SID)",
            id="an edited file of its own",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "message.json",
            '{"To": "${whom}"}',
            "message.json:1: unknown placeholder ${whom}",
            id="an edited message",
            marks=pytest.mark.long,
        ),
    ],
)
def test_an_edited_file_wins_over_the_packaged_one(
    deployment: Deployment, tmp_path: Path, file: str, text: str, says: str
) -> None:
    """What the operator wrote would be passed over in silence."""
    folder = tmp_path / "edited"
    shutil.copytree(ROOT / "config", folder)
    (folder / file).write_text(text)
    deployment.settings |= {"CONNECTOR_ELEMENT": "twiliov2", "CONFIG_DIR": str(folder)}
    assert says in parley(deployment, "connector", "plan", status=2)


def test_open_connectors_fact_09_connector_check_says_what_to_change(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Every reply would have to be refused before anybody learns that a field has another name."""
    folder = tmp_path / "edited"
    shutil.copytree(ROOT / "config", folder)
    deployment.settings |= {"CONNECTOR_ELEMENT": "twiliov2", "CONFIG_DIR": str(folder)}
    assert "there is no instance" in parley(deployment, "connector", "check", status=2)
    parley(deployment, "connector", "apply")
    assert "fits what the instance describes" in parley(deployment, "connector", "check")
    (folder / "message.twiliov2.json").write_text('{"to": "${to}", "Bodi": "${body}"}')
    said = parley(deployment, "connector", "check", status=1)
    assert '"to" is written "To"' in said
    assert '"Bodi" is not described; is "Body" meant?' in said
    assert '"From" is required and missing: add it' in said
    found = json.loads(parley(deployment, "connector", "check", "--json", status=1))
    assert [each["kind"] for each in found["findings"]] == ["casing", "unknown", "missing"]
    assert found["file"].endswith("message.twiliov2.json")
    assert deployment.replies() == []
