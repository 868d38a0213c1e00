"""A conversation that repeats a text, through a connector that is vague about what it has sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flow.conftest import Deployment, fetch, until
from tests.flow.test_dead_letters import parley

HANDLERS = """
from service import Router
router = Router()

@router.default
async def same(message):
    return "OK"
"""


@pytest.fixture
def always_ok(deployment: Deployment, tmp_path: Path) -> Deployment:
    """A deployment that answers every text with the same words."""
    path = tmp_path / "handlers_that_repeat.py"
    path.write_text(HANDLERS)
    deployment.settings |= {"HANDLERS": str(path), "SEND_TIMEOUT_S": "1", "RETRY_MAX_S": "1"}
    deployment.serve()
    return deployment


def test_a_reply_answered_200_with_nothing_is_not_taken_for_the_next(always_ok: Deployment) -> None:
    """The log shows a row that no sid was told for: the next reply in doubt would be lost."""
    for number, trouble in enumerate(({"empty": True}, {"hang": True}, {"reset": True}), start=1):
        always_ok.trouble(**trouble)
        always_ok.text(f"text {number}")
        until(lambda wanted=number: len(always_ok.replies()) == wanted)
    until(lambda: always_ok.log().count("a reply in doubt had been sent") == 1)
    assert always_ok.bodies() == ["OK"] * 3
    assert "There are no dead letters." in parley(always_ok, "dead", "list")


@pytest.mark.long
def test_a_reply_held_although_it_went_out_is_not_taken_for_the_next(always_ok: Deployment) -> None:
    """The next one of the same words did not go out, and nobody would ever know."""
    switches = f"{always_ok.sandbox}/sandbox/switches"
    assert fetch(switches, {"no_message_log": True})[0] == 200
    always_ok.trouble(reset=True)
    always_ok.text("one")
    until(lambda: len(_letters(always_ok)) == 1)
    assert always_ok.bodies() == ["OK"]

    assert fetch(switches, {"no_message_log": False})[0] == 200
    always_ok.trouble(hang=True)
    always_ok.text("two")
    until(lambda: len(_letters(always_ok)) == 2)
    assert "an earlier reply of the same words" in _letters(always_ok)[1]["error"]
    assert always_ok.bodies() == ["OK"]

    parley(always_ok, "dead", "replay", _letters(always_ok)[1]["id"])
    until(lambda: len(always_ok.replies()) == 2)
    always_ok.text("three")
    until(lambda: len(always_ok.replies()) == 3)
    assert len(_letters(always_ok)) == 1


def _letters(deployment: Deployment) -> list[dict[str, str]]:
    return list(json.loads(parley(deployment, "dead", "list", "--json")))
