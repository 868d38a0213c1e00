"""`parley connector take` and `show --token`, typed beside the real sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.operate.audit import trail
from service.operate.deployment import Deployment, open_store
from tests.cli.test_connector_commands import Run, on_terminal, run
from tests.connector.pieces import AUTH_TOKEN, OURS
from tests.sandboxed import Platform, bare, environ, platform, token

__all__ = ["bare", "environ", "platform", "run", "token"]

pytestmark = pytest.mark.anyio

MADE: dict[str, Any] = {
    "element": {"key": "twilio"},
    "name": "made by hand",
    "configuration": {
        "messaging.sms.twilio.protocol": "sms",
        "messaging.sms.twilio.account": f"AC{'0' * 32}",
        "messaging.sms.twilio.sender": OURS,
        "messaging.sms.twilio.token": AUTH_TOKEN,
        "messaging.sms.twilio.callback.url": "https://old.example.com/sms",
    },
}


async def acts(deployment: Deployment) -> list[tuple[str, str, str]]:
    """What, about what and the outcome of the acts in the trail, newest first."""
    async with open_store(deployment) as (client, _):
        return [(each.what, each.about, each.outcome) for each in await trail(client)]


async def test_an_instance_made_elsewhere_is_listed_planned_and_taken(
    environ: dict[str, str], bare: Deployment, run: Run, platform: Platform
) -> None:
    """What was made in the pages of Open Connectors could only be made again."""
    made = await platform("POST", "/instances", MADE)
    id_ = str(made["id"])
    listed = await run("take")
    assert "can be taken over" in listed.stdout
    assert "in use" in listed.stdout
    rows = json.loads((await run("take", "--json")).stdout)
    assert [each["ours"] for each in rows] == [False, True]
    assert made["token"] not in listed.stdout + json.dumps(rows)

    unasked = await run("take", id_)
    assert (unasked.returncode, "add --yes" in unasked.stderr) == (2, True)
    said = await on_terminal(environ, "take", id_, answer="n")
    assert any("take over instance" in line for line in said)
    assert [each["ours"] for each in json.loads((await run("take", "--json")).stdout)][1]
    assert not any(what == "connector take" for what, _, _ in await acts(bare))

    taken = await run("take", id_, "--yes", "--json")
    told = json.loads(taken.stdout)
    former = rows[1]["id"]
    assert (told["instance"], told["former"], told["untagged"]) == (id_, former, True)
    assert (await acts(bare))[0] == ("connector take", f"instance {id_}", "done")
    shown = await run("show", "--token")
    assert (shown.returncode, shown.stdout) == (0, f"{made['token']}\n")
    back = await run("take", former, "--yes")
    assert back.stdout.endswith(
        f"Instance {former} is in use now. Instance {id_} stays at the connector.\n"
    )


async def test_what_can_not_be_taken_is_refused_with_the_reason(run: Run) -> None:
    """A slip would look like a defect, or an unset variable of a script like no id."""
    wrong = await run("take", "999999", "--yes")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "there is no instance 999999 at the connector" in wrong.stderr
    empty = await run("take", "", "--yes")
    assert (empty.returncode, "ID is empty" in empty.stderr) == (2, True)


async def test_the_token_is_shown_alone_and_the_trail_says_who_asked(
    environ: dict[str, str], bare: Deployment, token: str
) -> None:
    """Nobody could use the instance elsewhere, or nobody would know who has its secret."""
    lines = await on_terminal(environ, "show", "--token")
    assert [line for line in lines if line] == [token]
    what, about, outcome = (await acts(bare))[0]
    assert (what, outcome) == ("connector show --token", "done")
    assert about.startswith("instance ")
    assert not any(token in field for act in await acts(bare) for field in act)
