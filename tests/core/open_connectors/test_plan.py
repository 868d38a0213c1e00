from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.masking import MASK
from service.core.open_connectors.elements import SECRET_ENTRIES
from service.core.open_connectors.plan import Plan, fits, make_plan, may_fit, sanitise, wanted_tags
from service.core.open_connectors.wire import InstanceAnswer, read_instance

PREFIX = "messaging.sms.twilio."
SECRET = "an-auth-token-nobody-may-see"
TOKEN = "instance-token="

texts = st.text(st.characters(exclude_characters="<>*", codec="utf-8"), min_size=1, max_size=12)


def wanted(**changes: Any) -> dict[str, Any]:
    """The body of POST /instances."""
    return {
        "element": {"key": "twilio"},
        "name": "Parley",
        "tags": ["parley"],
        "configuration": {
            f"{PREFIX}account": "AC1",
            f"{PREFIX}sender": "+15005550100",
            f"{PREFIX}token": SECRET,
            f"{PREFIX}callback.url": "https://sms.example.com/callbacks/twilio",
        },
    } | changes


def answered(body: dict[str, Any], **changes: Any) -> InstanceAnswer:
    """How the platform describes an instance made of `body`."""
    configuration = {
        key: MASK if key in SECRET_ENTRIES else value
        for key, value in body["configuration"].items()
    }
    shown = {"id": 7, "token": TOKEN, "disabled": False} | body
    found = read_instance(shown | {"configuration": configuration} | changes)
    assert found is not None
    return found


def planned(
    body: dict[str, Any],
    found: InstanceAnswer | None,
    *,
    adopted: bool = False,
    secrets_known: bool = True,
    rest_known: bool = True,
) -> Plan:
    """Plan with the token that was kept."""
    return make_plan(
        body,
        found,
        adopted=adopted,
        token=TOKEN,
        secrets_known=secrets_known,
        rest_known=rest_known,
    )


bodies = st.builds(
    lambda name, tags, values: wanted(
        name=name,
        tags=tags,
        configuration={**values, f"{PREFIX}token": SECRET},
    ),
    texts,
    st.lists(texts, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from([f"{PREFIX}sender", f"{PREFIX}account", "own.entry"]), texts),
)


@given(bodies)
def test_what_was_made_as_wanted_needs_nothing(body: dict[str, Any]) -> None:
    """Every start and every look would write to the instance that answers customers."""
    assert not planned(body, answered(body))


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(["parley", "theirs"], id="strings"),
        pytest.param([{"id": 1, "name": "parley"}, {"id": 2, "name": "theirs"}], id="objects"),
    ],
)
def test_tags_read_alike_in_both_documented_shapes(tags: list[str | dict[str, Any]]) -> None:
    """A tag would be missed, written again at every look, and somebody's own removed."""
    found = answered(wanted(), tags=tags)
    assert not planned(wanted(), found)
    assert wanted_tags(wanted(), found.tags) == ["parley", "theirs"]


def test_names_and_tags_are_compared_as_the_platform_keeps_them() -> None:
    """A name in bold would be written again at every look: the platform strips its HTML."""
    body = wanted(name="<b>Parley</b>", tags=["<i>parley</i>"])
    assert not planned(body, answered(body, name="Parley", tags=["parley"]))
    assert sanitise("<b>Parley</b>") == "Parley"


@given(bodies, bodies, st.tuples(*[st.booleans()] * 4))
def test_no_secret_is_told_whatever_the_plan(
    body: dict[str, Any], other: dict[str, Any], known: tuple[bool, ...]
) -> None:
    """Whoever reads the log, or over a shoulder, could sign callbacks in Twilio's name."""
    adopted, secrets, rest, gone = known
    found = None if gone else answered(other, disabled=rest)
    plan = planned(
        body, found, adopted=adopted and not gone, secrets_known=secrets, rest_known=rest
    )
    assert SECRET not in "\n".join(plan.lines())
    assert SECRET not in plan.summary()
    assert SECRET not in repr(plan)


@pytest.mark.parametrize("known", [True, False])
def test_a_secret_differs_by_its_fingerprint_alone(known: bool) -> None:
    """A rotated auth token would never reach the connector, or be written at every look."""
    plan = planned(wanted(), answered(wanted()), secrets_known=known)
    expected = [] if known else ["update instance 7", f"  {PREFIX}token: {MASK} -> {MASK}"]
    assert plan.lines() == expected


def test_what_is_kept_of_a_plan_has_the_entries_and_no_values() -> None:
    """Redis would keep numbers and addresses for people to read who only ask when."""
    found = answered(wanted(), name="x", disabled=True)
    assert planned(wanted(), found).brief() == "enable instance 7; update instance 7: name"
    assert planned(wanted(), None).brief() == "create an instance"
    assert planned(wanted(), answered(wanted())).brief() == ""


@pytest.mark.parametrize("known", [True, False])
def test_an_entry_that_only_the_platform_hides_is_not_told_either(known: bool) -> None:
    """A secret in an entry of the operator's own file would be printed beside its stars."""
    body = wanted(configuration={**wanted()["configuration"], "own.secret": "hunter2"})
    shown = dict.fromkeys(body["configuration"], MASK)
    found = answered(body, configuration={**body["configuration"], **shown})
    lines = planned(body, found, rest_known=known).lines()
    assert ("  own.secret: ******** -> ********" in lines) is not known
    assert "hunter2" not in "\n".join(lines)


OWN_SECRETS = {
    "messaging.sms.own.secret": "heron-4711",
    "own.Password": "heron-4711",
    "apiToken": "heron-4711",
    "signing_key": "heron-4711",
    "own.entry": f"Basic {SECRET}",
    "own.address": "https://hooks.example.com/in?api_key=heron-4711",
    "own.settings": '{"clientSecret": "heron-4711"}',
    "own.url": "https://parley:heron-4711@hooks.example.com",
}


@pytest.mark.parametrize("read", ["nothing", "no instance", "another", "the former one", "stars"])
@pytest.mark.parametrize("entry", OWN_SECRETS)
def test_a_secret_in_an_entry_of_the_operators_own_is_in_no_plan(entry: str, read: str) -> None:
    """What an operator adds to instance.json would be printed in the log of every first start."""
    body = wanted(configuration={**wanted()["configuration"], entry: OWN_SECRETS[entry]})
    former = OWN_SECRETS[entry].replace("heron-4711", "heron-0815").replace(SECRET, SECRET[::-1])
    told = {"nothing": {}, "another": {entry: "x"}, "the former one": {entry: former}}
    configuration = told.get(read, {entry: MASK})
    found = None if read == "no instance" else answered(body, configuration=configuration)
    plan = planned(body, found, rest_known=False)
    said = "\n".join([*plan.lines(), plan.summary(), repr(plan)])
    assert entry in said
    assert "heron-" not in said.replace(MASK, "")
    assert SECRET not in said


def test_an_entry_that_says_nothing_of_a_secret_is_shown() -> None:
    """An operator could not tell from a plan what it is about to change."""
    body = wanted(configuration={**wanted()["configuration"], "event.poller.refresh_interval": 5})
    assert "  event.poller.refresh_interval: (none) -> '5'" in planned(body, None).lines()


@pytest.mark.parametrize("known", [True, False])
def test_what_the_connector_does_not_tell_is_known_by_its_fingerprint(known: bool) -> None:
    """A changed address would never be registered where entries can't be read."""
    plan = planned(wanted(), answered(wanted(), configuration={}), rest_known=known)
    assert bool(plan) is not known


def test_a_changed_callback_url_is_told_from_what_to_what() -> None:
    """An operator could not see that texts go elsewhere."""
    configuration = wanted()["configuration"] | {f"{PREFIX}callback.url": "https://evil.example"}
    plan = planned(wanted(), answered(wanted(), configuration=configuration))
    url = "'https://sms.example.com/callbacks/twilio'"
    assert plan.lines()[1:] == [f"  {PREFIX}callback.url: 'https://evil.example' -> {url}"]
    assert not plan.stops_replies


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        pytest.param(None, ["create"], id="gone"),
        pytest.param(answered(wanted(), disabled=True), ["enable"], id="disabled"),
        pytest.param(answered(wanted(), token="another="), ["token"], id="token rotated"),
    ],
)
def test_what_stops_replies_is_told_from_what_does_not(
    found: InstanceAnswer | None, kinds: list[str]
) -> None:
    """/readyz would call an instance fit that no reply can leave through."""
    plan = planned(wanted(), found)
    assert [step.kind for step in plan.steps] == kinds
    assert plan.stops_replies


def test_an_adopted_instance_gets_our_secrets_whatever_it_reads() -> None:
    """Its auth token may be another's: nobody knows what is behind the stars."""
    plan = planned(wanted(), answered(wanted()), adopted=True)
    assert [step.kind for step in plan.steps] == ["adopt", "update"]
    assert [change.entry for change in plan.steps[1].changes] == [f"{PREFIX}token"]


@pytest.mark.parametrize(
    ("changes", "fitting"),
    [
        pytest.param({}, True, id="ours"),
        pytest.param({"token": "********"}, False, id="its token is hidden"),
        pytest.param({"token": None}, False, id="its token is left out"),
        pytest.param({"element": {"key": "slack"}}, False, id="another connector"),
        pytest.param({"configuration": {f"{PREFIX}account": "AC2"}}, False, id="another account"),
        pytest.param({"configuration": {}}, False, id="it does not tell its account"),
        pytest.param({"element": None}, False, id="it does not tell its connector"),
        pytest.param({"tags": ["billing"]}, False, id="another tag"),
        pytest.param({"tags": None}, False, id="it does not tell its tags"),
        pytest.param({"tags": ["x", {"id": 1, "name": "parley"}]}, True, id="tags as objects"),
    ],
)
def test_only_an_instance_of_the_same_account_with_a_token_is_adopted(
    changes: dict[str, Any], fitting: bool
) -> None:
    """Somebody else's texts would come to us, or no reply could leave."""
    assert fits(wanted(), answered(wanted(), **changes)) is fitting


def test_a_password_in_the_callback_url_is_in_no_plan() -> None:
    """`parley connector plan` would print it, and the log with it."""
    entry = f"{PREFIX}callback.url"
    body = wanted()
    private = "https://user:heron@sms.example.com/callbacks/twilio"
    body["configuration"][entry] = private
    other = wanted()
    other["configuration"][entry] = private.replace("user", "other").replace(".com", ".org")
    for found in (None, answered(other)):
        plan = planned(body, found)
        assert "heron" not in f"{plan} {plan.lines()}"
        assert "https://********@sms.example.com/callbacks/twilio" in plan.summary()
    assert planned(body, answered(body)).steps == ()


@pytest.mark.parametrize(
    ("changes", "worth"),
    [
        pytest.param({}, True, id="ours"),
        pytest.param(
            {"configuration": {}, "element": None, "tags": None, "token": None}, True, id="bare"
        ),
        pytest.param({"element": {"key": "slack"}}, False, id="another connector"),
        pytest.param({"configuration": {f"{PREFIX}account": "AC2"}}, False, id="another account"),
        pytest.param({"tags": ["billing"]}, False, id="another tag"),
    ],
)
def test_of_a_list_what_may_be_ours_is_asked_and_nobody_elses(
    changes: dict[str, Any], worth: bool
) -> None:
    """Our own would be passed over for a row that tells little, or hundreds be asked in vain."""
    assert may_fit(wanted(), answered(wanted(), **changes)) is worth
