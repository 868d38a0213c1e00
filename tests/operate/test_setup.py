"""What an operator types of the setup, checks, plans, applies and changes later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from service.core.sealing import Sealer
from service.errors import (
    ConnectorUnauthorized,
    ConnectorUnreachable,
    SettingsError,
    SetupChanged,
    UsageError,
)
from service.operate.audit import trail
from service.operate.deployment import Deployment, open_store
from service.operate.instance import open_instance
from service.operate.setup import Setup, field_of
from service.settings.setup import Given, load_given
from service.store.client import Redis
from service.store.connection import connect
from service.store.setups import Setups

pytestmark = pytest.mark.anyio

GIVEN_BY_SETTINGS = ("PUBLIC_URL", "REDIS_URL", "SECRET_KEY")


@pytest.fixture
def given(environ: dict[str, str]) -> Given:
    """A service that nobody has set up."""
    return load_given(environ={name: environ[name] for name in GIVEN_BY_SETTINGS})


@pytest.fixture
def typed(environ: dict[str, str]) -> dict[str, str]:
    """What has to be typed."""
    return {name.lower(): value for name, value in environ.items() if name not in GIVEN_BY_SETTINGS}


@pytest.fixture
async def redis(environ: dict[str, str]) -> AsyncIterator[Redis]:
    """The deployment's Redis."""
    client = connect(environ["REDIS_URL"])
    yield client
    await client.aclose()


@pytest.fixture
def setup(redis: Redis, given: Given) -> Setup:
    """Its setup."""
    return Setup(redis, given)


async def apply(setup: Setup) -> int:
    """Apply it by a command."""
    return await setup.apply(who="somebody", via="command")


async def test_at_first_everything_required_is_asked_for(setup: Setup) -> None:
    """A person would not know what to type."""
    state = await setup.look()
    assert (state.version, state.drafted, state.complete) == (0, False, False)
    asked = [each.name for each in state.entries.values() if each.problem]
    assert asked == [
        "OPEN_CONNECTORS_BASE_URL",
        "OPEN_CONNECTORS_USER_SECRET",
        "OPEN_CONNECTORS_ORGANIZATION_SECRET",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "TWILIO_SENDER",
    ]
    entry = state.entries["twilio_account_sid"]
    assert entry.problem == "TWILIO_ACCOUNT_SID is missing."
    assert entry.key == "messaging.sms.twilio.account"
    assert state.callback_url == "https://sms.example.com/callbacks/twilio"


async def test_what_is_typed_is_kept_right_or_wrong(
    setup: Setup, redis: Redis, given: Given
) -> None:
    """A mistake, a reload or a new sign-in would lose what was typed."""
    values = {"twilio_account_sid": "ACx", "twilio_auth_token": "the-auth-token"}
    await setup.type(values, who="somebody")
    state = await Setup(redis, given).look()
    sid, token = state.entries["twilio_account_sid"], state.entries["twilio_auth_token"]
    assert (sid.value, sid.source) == ("ACx", "draft")
    assert sid.problem.startswith("TWILIO_ACCOUNT_SID is not an account SID")
    assert (token.value, token.kept, token.problem) == ("", True, "")
    assert state.drafted
    assert "the-auth-token" not in repr(state)


async def test_an_empty_secret_stays_and_another_empty_entry_goes(setup: Setup) -> None:
    """A page that shows no secret would take it away when it is sent."""
    await setup.type({"twilio_auth_token": "first", "instance_name": "Desk"}, who="somebody")
    state = await setup.type({"twilio_auth_token": "", "instance_name": ""}, who="somebody")
    assert state.entries["twilio_auth_token"].kept
    assert state.entries["instance_name"].value == "Parley"


async def test_what_settings_give_can_not_be_typed(redis: Redis, environ: dict[str, str]) -> None:
    """A page would say that something is in use that is not."""
    setup = Setup(redis, load_given(environ=environ))
    state = await setup.type({"twilio_sender": "+14155550199"}, who="somebody")
    entry = state.entries["twilio_sender"]
    assert (entry.value, entry.source, entry.fixed) == (
        environ["TWILIO_SENDER"],
        "environment",
        True,
    )
    assert not state.drafted


async def test_the_connector_is_asked_with_what_is_typed(
    setup: Setup, typed: Mapping[str, str]
) -> None:
    """Somebody would find out at the end that the first entry was wrong."""
    with pytest.raises(SettingsError, match="OPEN_CONNECTORS_USER_SECRET is missing"):
        await setup.check_access()
    await setup.type(dict(typed), who="somebody")
    assert "no instance carries the tag parley" in await setup.check_access()
    await setup.type({"open_connectors_user_secret": "wrong"}, who="somebody")
    with pytest.raises(ConnectorUnauthorized) as refused:
        await setup.check_access()
    assert field_of(refused.value) == "open_connectors_user_secret"
    assert refused.value.request_id


async def test_an_address_without_a_connector_is_told_at_its_field(
    setup: Setup, typed: Mapping[str, str]
) -> None:
    """Somebody would look for a mistake in the secrets."""
    away = dict(typed) | {"open_connectors_base_url": "http://127.0.0.1:9/elements/api-v2"}
    await setup.type(away, who="somebody")
    with pytest.raises(ConnectorUnreachable) as away_error:
        await setup.check_access()
    assert field_of(away_error.value) == "open_connectors_base_url"


async def test_applied_it_is_in_use_by_every_command(
    setup: Setup, typed: Mapping[str, str], given: Given, environ: dict[str, str], redis: Redis
) -> None:
    """What the console says would not be what the service does."""
    deployment = Deployment(given.partial(), environ["REDIS_URL"], given)
    async with open_store(deployment) as (client, _):
        with pytest.raises(SettingsError, match="or type them in: parley connect"):
            await deployment.settings_in_use(client)
    await setup.type(dict(typed), who="somebody")
    plan = await setup.plan()
    assert plan.lines()[0] == "create an instance"
    assert await apply(setup) == 1
    state = await setup.look()
    assert (state.version, state.drafted, state.complete) == (1, False, True)
    assert state.entries["twilio_sender"].source == "setup"
    async with open_store(deployment) as (client, _):
        settings = await deployment.settings_in_use(client)
    assert settings.twilio_account_sid == typed["twilio_account_sid"]
    with pytest.raises(SettingsError, match="there is no instance"):
        async with open_instance(deployment):
            pass
    (act,) = await trail(redis)
    assert (act.who, act.what) == ("somebody", "connect")
    assert "TWILIO_AUTH_TOKEN" in act.about
    assert typed["twilio_auth_token"] not in act.about


async def test_secrets_that_the_connector_refuses_take_no_one_s_place(
    setup: Setup, typed: Mapping[str, str]
) -> None:
    """A typing error would stop a service that works."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    await setup.type({"open_connectors_user_secret": "wrong"}, who="somebody")
    with pytest.raises(ConnectorUnauthorized):
        await apply(setup)
    state = await setup.look()
    assert state.version == 1
    assert state.drafted


async def test_a_new_auth_token_leaves_the_former_one_accepted_until_it_is_retired(
    setup: Setup, typed: Mapping[str, str], given: Given, redis: Redis, environ: dict[str, str]
) -> None:
    """Texts that Twilio signs with either token, while they change, would be refused."""
    deployment = Deployment(given.partial(), environ["REDIS_URL"], given)
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    await setup.type({"twilio_auth_token": "another-token"}, who="somebody")
    assert await apply(setup) == 2
    both = await deployment.settings_in_use(redis)
    assert both.auth_tokens == ("another-token", typed["twilio_auth_token"])
    assert await setup.retire_token(who="somebody", via="console") == 3
    assert (await deployment.settings_in_use(redis)).auth_tokens == ("another-token",)
    with pytest.raises(UsageError, match="no former auth token"):
        await setup.retire_token(who="somebody", via="console")


async def test_what_was_typed_can_be_forgotten(setup: Setup, typed: Mapping[str, str]) -> None:
    """Credentials that nobody uses would stay."""
    await setup.type(dict(typed), who="somebody")
    await setup.discard(who="somebody", via="command")
    state = await setup.look()
    assert not state.drafted
    assert not state.entries["twilio_auth_token"].kept


async def test_it_is_sealed_anew_with_the_first_key(
    setup: Setup, typed: Mapping[str, str], redis: Redis, environ: dict[str, str]
) -> None:
    """The former key could never go."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    await setup.type({"instance_name": "Desk"}, who="somebody")
    bare = {name: environ[name] for name in GIVEN_BY_SETTINGS}
    both = load_given(environ=bare | {"SECRET_KEY": f"{'n' * 40},{'k' * 40}"})
    await Setup(redis, both).rekey(who="somebody")
    new = load_given(environ=bare | {"SECRET_KEY": "n" * 40})
    state = await Setup(redis, new).look()
    assert state.entries["instance_name"].value == "Desk"
    assert state.entries["twilio_auth_token"].kept
    assert await Setups(redis, Sealer(["n" * 40])).version() == 2


async def test_another_address_gets_no_secret_that_was_typed_for_the_one_in_use(
    setup: Setup, typed: Mapping[str, str]
) -> None:
    """Whoever may type could have the secrets sent to a machine of their own."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    theirs = {"open_connectors_base_url": "http://127.0.0.1:9/elements/api-v2"}
    state = await setup.type(theirs, who="somebody")
    for each in ("open_connectors_user_secret", "open_connectors_organization_secret"):
        assert not state.entries[each].kept
        assert state.entries[each].problem == f"{each.upper()} is missing."
    assert state.entries["twilio_auth_token"].kept
    with pytest.raises(SettingsError, match="SECRET is missing"):
        await setup.check_access()
    with pytest.raises(SettingsError, match="SECRET is missing"):
        await apply(setup)
    again = {each: typed[each] for each in typed if each.startswith("open_connectors")}
    assert (await setup.type(again, who="somebody")).complete


async def test_an_address_is_not_typed_beside_secrets_of_settings(
    redis: Redis, typed: Mapping[str, str], environ: dict[str, str]
) -> None:
    """Secrets that a deployment keeps in files would be sent wherever somebody types."""
    names = (*GIVEN_BY_SETTINGS, "OPEN_CONNECTORS_USER_SECRET")
    setup = Setup(redis, load_given(environ={name: environ[name] for name in names}))
    state = await setup.type(dict(typed), who="somebody")
    problem = state.entries["open_connectors_base_url"].problem
    assert "goes with OPEN_CONNECTORS_USER_SECRET, so it is set where they are" in problem
    for asking in (setup.check_access, setup.plan):
        with pytest.raises(SettingsError, match="not typed"):
            await asking()


async def test_a_retired_auth_token_is_not_brought_back_by_what_was_typed_before(
    setup: Setup, typed: Mapping[str, str], given: Given, redis: Redis, environ: dict[str, str]
) -> None:
    """A token that was retired because somebody has it would be accepted again."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    await setup.type({"twilio_auth_token": "another-token"}, who="somebody")
    await apply(setup)
    await setup.type({"instance_name": "Desk"}, who="somebody")
    await setup.retire_token(who="somebody", via="console")
    await apply(setup)
    deployment = Deployment(given.partial(), environ["REDIS_URL"], given)
    settings = await deployment.settings_in_use(redis)
    assert (settings.auth_tokens, settings.instance_name) == (("another-token",), "Desk")


async def test_a_secret_that_can_be_done_without_and_is_wrong_is_taken_out(setup: Setup) -> None:
    """Nobody could go on but by giving everything up."""
    wrong = {"twilio_auth_token_secondary": "two words", "twilio_auth_token": "two words"}
    state = await setup.type(wrong, who="somebody")
    assert state.entries["twilio_auth_token_secondary"].problem
    state = await setup.type(dict.fromkeys(wrong, ""), who="somebody")
    former = state.entries["twilio_auth_token_secondary"]
    assert (former.kept, former.problem) == (False, "")
    # One that is needed stays as it was typed, with what is wrong about it.
    assert state.entries["twilio_auth_token"].kept


async def test_what_changed_since_it_was_looked_at_is_not_applied(
    setup: Setup, typed: Mapping[str, str], redis: Redis
) -> None:
    """Somebody would put in use what another one typed."""
    state = await setup.type(dict(typed), who="somebody")
    await setup.type({"instance_name": "Desk"}, who="another")
    with pytest.raises(SetupChanged):
        await setup.apply(who="somebody", via="command", seen=state.seen)
    seen = (await setup.look()).seen
    assert await setup.apply(who="somebody", via="command", seen=seen) == 1


async def test_an_apply_that_is_refused_is_in_the_trail(
    setup: Setup, typed: Mapping[str, str], redis: Redis
) -> None:
    """Who tried to use other credentials would be known to nobody."""
    await setup.type(dict(typed) | {"open_connectors_user_secret": "wrong"}, who="somebody")
    with pytest.raises(ConnectorUnauthorized):
        await apply(setup)
    (act,) = await trail(redis)
    assert (act.what, act.outcome) == ("connect", "failed: ConnectorUnauthorized")


async def test_a_setup_that_no_key_opens_any_more_is_typed_anew(
    setup: Setup, typed: Mapping[str, str], redis: Redis, environ: dict[str, str]
) -> None:
    """A lost SECRET_KEY would leave a service that nobody could set up again."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    await setup.type({"instance_name": "Desk"}, who="somebody")
    bare = {name: environ[name] for name in GIVEN_BY_SETTINGS}
    new = Setup(redis, load_given(environ=bare | {"SECRET_KEY": "n" * 40}))
    state = await new.look()
    assert (state.version, state.complete) == (1, False)
    assert "SECRET_KEY is not the one the setup in Redis was sealed with" in state.problem
    await new.type(dict(typed), who="somebody")
    assert await apply(new) == 2
    state = await new.look()
    assert (state.complete, state.problem) == (True, "")


async def test_settings_that_are_whole_go_without_a_setup_that_can_not_be_used(
    setup: Setup, typed: Mapping[str, str], redis: Redis, environ: dict[str, str]
) -> None:
    """A deployment that went back to settings would be stopped by what it left in Redis."""
    await setup.type(dict(typed) | {"instance_name": "Desk"}, who="somebody")
    await apply(setup)
    whole = load_given(environ=environ | {"SECRET_KEY": "n" * 40})
    deployment = Deployment(whole.partial(), environ["REDIS_URL"], whole)
    assert (await deployment.settings_in_use(redis)).instance_name == "Parley"


async def test_a_former_token_is_not_lost_by_a_draft_that_was_left_behind(
    setup: Setup, typed: Mapping[str, str], given: Given, redis: Redis, environ: dict[str, str]
) -> None:
    """A process that died between the two steps of applying would have left it so."""
    deployment = Deployment(given.partial(), environ["REDIS_URL"], given)
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    await setup.type({"twilio_auth_token": "another-token"}, who="somebody")
    await apply(setup)
    sealer = Sealer(given.partial().secret_keys)
    left = dict(typed) | {"twilio_auth_token": "another-token"}
    assert await Setups(redis, sealer).keep_draft(left, who="somebody", after=0)
    await apply(setup)
    both = ("another-token", typed["twilio_auth_token"])
    assert (await deployment.settings_in_use(redis)).auth_tokens == both


async def test_a_second_token_that_was_typed_is_not_replaced_in_silence(
    setup: Setup, typed: Mapping[str, str]
) -> None:
    """Somebody would believe that a token is accepted, and its texts would be refused."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    tokens = {"twilio_auth_token": "another", "twilio_auth_token_secondary": "a-third-one"}
    await setup.type(tokens, who="somebody")
    with pytest.raises(SettingsError, match="apply the new one first"):
        await apply(setup)


async def test_the_same_secrets_can_be_typed_for_another_address(
    setup: Setup, typed: Mapping[str, str]
) -> None:
    """A tenant that has moved to another address could not be set up there."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    secrets = {each: typed[each] for each in typed if each.endswith("_secret")}
    theirs = typed["open_connectors_base_url"].replace("127.0.0.1", "localhost")
    await setup.type({"open_connectors_base_url": theirs}, who="somebody")
    for each, value in secrets.items():
        await setup.type({each: value}, who="somebody")
    # What is typed later leaves them as they are.
    state = await setup.type({"instance_name": "Desk"}, who="somebody")
    assert state.complete
    assert (await setup.type({"open_connectors_base_url": theirs} | secrets, who="x")).complete


async def test_a_draft_that_no_key_opens_hides_nothing_and_is_kept_for_its_key(
    setup: Setup, typed: Mapping[str, str], redis: Redis, given: Given
) -> None:
    """What is in use would look as if nobody had typed it, and what was typed would be gone."""
    await setup.type(dict(typed), who="somebody")
    await apply(setup)
    other = Setups(redis, Sealer(["o" * 40]))
    assert await other.keep_draft({"instance_name": "Desk"}, who="another", after=0)
    state = await setup.look()
    assert (state.complete, state.drafted) == (True, False)
    await setup.rekey(who="somebody")
    found = await other.draft()
    assert found is not None
    assert found.values == {"instance_name": "Desk"}
    state = await setup.type({"instance_name": "Front"}, who="somebody")
    assert (state.complete, state.entries["instance_name"].value) == (True, "Front")
