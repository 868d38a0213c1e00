"""How the instance is looked at and acted on, at the real sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.core.sealing import Sealer
from service.errors import ConnectorUnreachable, SettingsError, SetupChanged, UsageError
from service.operate.console import confirm_password, set_password
from service.operate.deployment import Deployment
from service.operate.instance import open_provisioner
from service.operate.instance_acts import act_on_instance, token_of
from service.operate.instance_look import look_at_instance
from service.settings.loading import load_settings
from service.store.connection import connect
from service.store.setups import Setups
from tests.connector.pieces import AUTH_TOKEN
from tests.operate.pieces import PASSWORD, come_in, refusal
from tests.sandboxed import Platform

pytestmark = pytest.mark.anyio


async def test_a_look_says_what_differs_first_and_tells_no_secret(
    deployment: Deployment, platform: Platform, token: str, environ: dict[str, str]
) -> None:
    """The one line that matters would be looked for among ten, or a log would hold the token."""
    look = await look_at_instance(deployment)
    assert (look.there, look.disabled, look.repairs) == (True, False, ())
    assert not any(entry.wanted for entry in look.entries)
    sent = {entry.name: entry.value for entry in look.entries}
    assert sent["messaging.sms.twilio.sender"] == environ["TWILIO_SENDER"]
    assert sent["messaging.sms.twilio.token"] == "********"

    change = {"tags": ["theirs"], "configuration": {"messaging.sms.twilio.sender": "+1999"}}
    await platform("PATCH", f"/instances/{look.id}", change)
    settings = load_settings(None, environ | {"TWILIO_AUTH_TOKEN": "f" * 32})
    look = await look_at_instance(Deployment(settings, environ["REDIS_URL"]))
    differing = [(each.name, each.value, each.wanted) for each in look.entries if each.wanted]
    assert differing == [(each.name, each.value, each.wanted) for each in look.entries][:3]
    assert set(differing) == {
        ("messaging.sms.twilio.sender", "+1999", environ["TWILIO_SENDER"]),
        ("messaging.sms.twilio.token", "********", "********"),
        ("tags", "theirs", "['theirs', 'parley']"),
    }
    for secret in (token, AUTH_TOKEN, "f" * 32):
        assert secret not in repr(look)


async def test_a_look_without_an_instance_plans_one(bare: Deployment) -> None:
    """Whoever is about to make one would not see what is made."""
    look = await look_at_instance(bare)
    assert (look.id, look.there, look.problem) == ("", False, None)
    assert look.repairs[0] == "create an instance"


async def test_a_look_at_a_connector_that_is_away_tells_what_is_kept(
    deployment: Deployment, environ: dict[str, str]
) -> None:
    """What Redis knows would be hidden by what it does not."""
    away = {"OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:9/elements/api-v2"}
    elsewhere = Deployment(load_settings(None, environ | away), environ["REDIS_URL"])
    look = await look_at_instance(elsewhere)
    assert isinstance(look.problem, ConnectorUnreachable)
    assert look.id == (await look_at_instance(deployment)).id
    assert look.entries == ()
    other = load_settings(None, environ | {"SECRET_KEY": "another" * 8})
    look = await look_at_instance(Deployment(other, environ["REDIS_URL"]))
    assert isinstance(look.problem, SettingsError)
    assert "parley connector forget" in str(look.problem)


async def test_an_act_is_done_to_what_was_seen_alone(deployment: Deployment) -> None:
    """Of two operators, the slower one would delete what the other has just made."""
    seen = (await look_at_instance(deployment)).id
    after = await act_on_instance(deployment, "rotate", seen)
    assert (await token_of(deployment))[0] == after
    with pytest.raises(UsageError, match=f"instance {after} is in use now"):
        await act_on_instance(deployment, "remove", seen)
    await act_on_instance(deployment, "remove", after)
    with pytest.raises(UsageError, match="there is no instance any more"):
        await act_on_instance(deployment, "disable", after)
    assert await act_on_instance(deployment, "apply", "")


async def test_two_who_replace_what_they_have_seen_replace_it_once(
    deployment: Deployment, platform: Platform
) -> None:
    """The second would replace the instance that the first one has just made."""
    seen, _ = await token_of(deployment)
    done = await asyncio.gather(
        *(act_on_instance(deployment, "rotate", seen) for _ in range(2)), return_exceptions=True
    )
    made = [each for each in done if isinstance(each, str)]
    refused = [each for each in done if isinstance(each, UsageError)]
    assert (len(made), len(refused)) == (1, 1), done
    assert [str(each["id"]) for each in await platform("GET", "/instances")] == made


async def test_a_command_that_waited_while_the_setup_changed_writes_nothing(
    deployment: Deployment, environ: dict[str, str]
) -> None:
    """It would write the former credentials over those that somebody has just applied."""
    client = connect(environ["REDIS_URL"])
    async with open_provisioner(deployment) as provisioner:
        sealer = Sealer([environ["SECRET_KEY"]])
        assert await Setups(client, sealer).keep({}, who="somebody", after=0) == 1
        for act in (provisioner.ensure, provisioner.replace, provisioner.remove):
            with pytest.raises(SetupChanged):
                await act()
    await client.aclose()


async def test_the_password_of_the_session_s_role_is_asked_for(client: Any) -> None:
    """Another role's password, or none, would do."""
    _, session = await come_in(client)
    here = {"address": "127.0.0.1"}
    none = await refusal(confirm_password(client, session, "", **here))
    assert "no password of this role is set; `parley console password` sets one" in none.reason
    await set_password(client, "the password of others", "viewer")
    await refusal(confirm_password(client, session, "the password of others", **here))
    await set_password(client, PASSWORD)
    wrong = await refusal(confirm_password(client, session, "the password of others", **here))
    assert wrong.reason == "that is not the password"
    await confirm_password(client, session, PASSWORD, **here)
