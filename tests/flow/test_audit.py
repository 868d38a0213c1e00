"""The audit trail of a deployment that somebody worked on by commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.flow.conftest import Deployment, until
from tests.flow.test_dead_letters import parley

HANDLERS = """
from service import Router
router = Router()

@router.default
async def fail(message):
    raise ValueError(f"no {message.body} of {message.from_}")
"""


def test_whatever_a_command_did_is_in_the_trail_without_a_number_or_a_text(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Who dropped the texts or switched the instance off would be known to nobody."""
    path = tmp_path / "failing.py"
    path.write_text(HANDLERS)
    deployment.settings |= {"HANDLERS": str(path), "HANDLER_ATTEMPTS": "1"}
    process = deployment.serve(CONNECTOR_REPAIR="report")
    for text in ("heron-4711", "egret-4712"):
        assert deployment.text(text)["status"] == 200
    listed = ("dead", "list", "--json")
    letters = until(lambda: len(found := json.loads(parley(deployment, *listed))) == 2 and found)
    ids = [letter["id"] for letter in letters]

    parley(deployment, "dead", "drop", "--all", "--number", "+15005550123", "--yes")
    parley(deployment, "connector", "plan")
    parley(deployment, "connector", "disable", "--yes")
    parley(deployment, "connector", "enable")
    parley(deployment, "backfill", "--since", "1h", "--dry-run")
    parley(deployment, "backfill", "--since", "1h", "--to", "+15005550177")
    rotated = json.loads(parley(deployment, "connector", "rotate", "--yes", "--json"))["instance"]
    parley(deployment, "connector", "apply")
    parley(deployment, "connector", "rekey")
    process.terminate()
    assert process.wait(15) == 0
    removed = json.loads(parley(deployment, "connector", "remove", "--yes", "--json"))["removed"]
    parley(deployment, "connector", "enable", status=2)

    shown = parley(deployment, "audit", "--json")
    rows = [(row["what"], row["about"], row["outcome"]) for row in json.loads(shown)][::-1]
    assert [what for what, _, _ in rows] == [
        "dead drop",
        "connector disable",
        "connector enable",
        "backfill",
        "connector rotate",
        "connector apply",
        "connector rekey",
        "connector remove",
        "connector enable",
    ]
    assert rows[0] == ("dead drop", ", ".join(ids), "2 dropped")
    assert rows[1][1:] == rows[2][1:]
    assert re.fullmatch(r"since [-\d]+ [:\d]+ UTC", rows[3][1])
    assert re.fullmatch(r"\d+ read, \d+ recovered", rows[3][2])
    assert rows[4] == ("connector rotate", f"instance {rotated}", "done")
    assert rows[5] == ("connector apply", f"instance {rotated}", "nothing to do")
    assert rows[7] == ("connector remove", f"instance {removed}", "done")
    assert rows[8] == ("connector enable", "", "failed: SettingsError")
    for secret in ("heron", "egret", "5550123", "5550177", deployment.auth_token):
        assert secret not in shown
