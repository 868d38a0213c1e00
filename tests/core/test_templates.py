"""`config/instance.json` and `config/message.json`, and every way an operator can break them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.templates import Template
from service.errors import SettingsError

CONFIG = Path(__file__).parents[2] / "config"
NAMES = ("from", "to", "body", "media")
VALUES = {"from": "+15005550100", "to": "+15005550123", "body": "hi", "media": ()}


def template(text: str) -> Template:
    """Make a template of a reply's body."""
    return Template(text, place="message.json", names=NAMES)


def shipped() -> Template:
    """The template that ships."""
    return template((CONFIG / "message.json").read_text())


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        pytest.param('{"a": "${body}"}', {"a": "hi"}, id="a placeholder alone"),
        pytest.param('{"a": "<${body}>"}', {"a": "<hi>"}, id="within a text"),
        pytest.param('{"a": "${body}${body}"}', {"a": "hihi"}, id="twice"),
        pytest.param('{"a": {"b": ["${to}"]}}', {"a": {"b": ["+15005550123"]}}, id="nested"),
        pytest.param('{"a": "${media}"}', {}, id="empty and alone: the key is left out"),
        pytest.param('{"a": "x${media}"}', {"a": "x()"}, id="empty within a text stays"),
        pytest.param('{"a": ""}', {"a": ""}, id="an empty text of the template's own stays"),
        pytest.param('{"a": [1, null, true]}', {"a": [1, None, True]}, id="other values stay"),
        pytest.param('{"a": "$body {body} $"}', {"a": "$body {body} $"}, id="near misses stay"),
        pytest.param('{"a\\": \\"": "b\nc"}', {'a": "': "b\nc"}, id="a newline inside a text"),
    ],
)
def test_placeholders_are_filled(text: str, filled: object) -> None:
    """Replies would go out with the wrong fields, or with placeholders for a text."""
    assert template(text).fill(VALUES) == filled
    assert json.loads(template(text).render(VALUES)) == json.loads(json.dumps(filled))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_reaches_the_wire_as_it_is(body: str) -> None:
    """A text that holds a quote, an emoji or a placeholder would be damaged or break the JSON."""
    assert json.loads(shipped().render({**VALUES, "body": body}))["Body"] == body


def test_media_stays_a_list() -> None:
    """Pictures would be sent as one malformed address."""
    sent = json.loads(shipped().render({**VALUES, "media": ("https://a", "https://b")}))

    assert sent["MediaUrl"] == ["https://a", "https://b"]


def test_a_template_is_not_changed_by_filling_it() -> None:
    """The second reply would repeat the first."""
    reply = shipped()
    reply.render({**VALUES, "body": "first"})

    assert json.loads(reply.render({**VALUES, "body": "second"}))["Body"] == "second"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            '{\n  "a": "${boddy}"\n}',
            "message.json:2: unknown placeholder ${boddy}",
            id="a misspelt placeholder",
        ),
        pytest.param('{\n "a": "${body"\n}', 'message.json:2: a "${"', id="an unfinished one"),
        pytest.param('{\n "a": 1,\n}', "message.json:3: ", id="malformed JSON"),
        pytest.param("", "message.json:1: ", id="an empty file"),
        pytest.param("[]", "message.json:1: must be a JSON object", id="a list"),
    ],
)
def test_a_broken_template_is_named_by_file_and_line(text: str, problem: str) -> None:
    """The operator would look for the mistake in the wrong file, or find it in the replies."""
    with pytest.raises(SettingsError) as caught:
        template(text)

    assert caught.value.problems[0].startswith(problem)


def test_every_unknown_placeholder_is_named_at_once() -> None:
    """The operator would mend them one start at a time."""
    with pytest.raises(SettingsError) as caught:
        template('{"a": "${one}",\n"b": "${two} ${body}"}')

    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "message.json:1: unknown placeholder ${one}",
        "message.json:2: unknown placeholder ${two}",
    ]
    assert "${body}, ${from}, ${media}, ${to}" in caught.value.problems[0]


def test_the_shipped_message_uses_every_placeholder() -> None:
    """Part of every reply would be missing."""
    assert all(shipped().uses(name) for name in NAMES)
    assert not shipped().uses("bod")
