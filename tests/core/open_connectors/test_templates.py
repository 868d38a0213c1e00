from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.open_connectors.templates import Template
from service.errors import SettingsError

CONFIG = Path(__file__).parents[3] / "config"
NAMES = frozenset({"from", "to", "body", "media"})
VALUES: dict[str, Any] = {
    "from": "+15005550100",
    "to": "+15005550123",
    "body": 'say "hi" \\ ${to}\n😊',
    "media": ("https://x.example/1.png",),
}


def make(body: Any) -> Template:
    """Make a template of a value."""
    return Template(json.dumps(body), place="config/message.json", names=NAMES)


@pytest.mark.parametrize(
    ("body", "filled"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"To": "${to}"}, {"To": "+15005550123"}, id="a text"),
        pytest.param({"M": "${media}"}, {"M": ("https://x.example/1.png",)}, id="a list stays one"),
        pytest.param({"B": "${body}"}, {"B": VALUES["body"]}, id="what fills is not filled again"),
        pytest.param(
            {"note": "${from} to ${to}"}, {"note": "+15005550100 to +15005550123"}, id="in a text"
        ),
        pytest.param(
            {"a": {"b": [{"c": "${to}"}, "${from}"]}},
            {"a": {"b": [{"c": "+15005550123"}, "+15005550100"]}},
            id="deep inside",
        ),
        pytest.param({"${to}": "x"}, {"${to}": "x"}, id="a key is left alone"),
        pytest.param(
            {"a": 1, "b": None, "c": True, "d": "", "e": []},
            {"a": 1, "b": None, "c": True, "d": "", "e": []},
            id="what is no placeholder stays, empty or not",
        ),
        pytest.param({"a": "$to {to} $ {to}"}, {"a": "$to {to} $ {to}"}, id="no placeholders"),
    ],
)
def test_placeholders_are_filled_and_nothing_else_is_touched(
    body: dict[str, Any], filled: dict[str, Any]
) -> None:
    """A reply goes to the wrong field, or its text is taken for a template."""
    template = make(body)
    assert template.fill(VALUES) == filled
    assert json.loads(template.render(VALUES)) == json.loads(json.dumps(filled))


@pytest.mark.parametrize("empty", ["", (), [], None], ids=["text", "tuple", "list", "None"])
def test_a_key_is_left_out_when_what_fills_it_is_empty(empty: Any) -> None:
    """Twilio refuses a text with an empty MediaUrl."""
    template = make({"To": "${to}", "MediaUrl": "${media}", "note": "to: ${media}"})
    assert template.fill(VALUES | {"media": empty}).keys() == {"To", "note"}


def test_zero_and_false_are_not_empty() -> None:
    """A setting of 0 would vanish from the instance."""
    template = make({"To": "${to}", "Body": "${body}"})
    assert template.fill({"to": 0, "body": False}) == {"To": 0, "Body": False}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_template(body: str) -> None:
    """A quotation mark or an emoji in a reply breaks the request."""
    template = make({"Body": "x${body}"})
    assert json.loads(template.render({"body": body})) == {"Body": f"x{body}"}


def test_a_template_is_filled_anew_each_time() -> None:
    """One person's text turns up in the next one's reply."""
    template = make({"a": {"To": "${to}"}})
    first = template.fill({"to": "1"})
    assert template.fill({"to": "2"}) == {"a": {"To": "2"}}
    assert first == {"a": {"To": "1"}}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param("", ["m.json:1: Expecting value"], id="an empty file"),
        pytest.param(
            '{\n"a": 1,\n}',
            ["m.json:3: Expecting property name enclosed in double quotes"],
            id="a comma too many",
        ),
        pytest.param("[]", ["m.json:1: must be a JSON object, {...}"], id="a list"),
        pytest.param(
            '{\n"a": "${bdy}",\n"b": "${to} ${}"\n}',
            [
                "m.json:2: unknown placeholder ${bdy}; there are ${body}, ${to}",
                "m.json:3: unknown placeholder ${}; there are ${body}, ${to}",
            ],
            id="unknown placeholders, all at once",
        ),
        pytest.param(
            '{"a": "\\u0024{bdy}"}',
            ["m.json:1: unknown placeholder ${bdy}; there are ${body}, ${to}"],
            id="one written with an escape",
        ),
    ],
)
def test_a_wrong_template_is_refused_with_file_and_line(text: str, problems: list[str]) -> None:
    """The first reply fails instead of the start, and nobody knows which line."""
    with pytest.raises(SettingsError) as caught:
        Template(text, place="m.json", names={"to", "body"})
    assert list(caught.value.problems) == problems


def test_a_template_tells_which_placeholders_it_has() -> None:
    """Warnings about a template without the text, or without pictures, would be wrong."""
    template = make({"a": ["x ${to}"], "b": {"${from}": "${body}"}})
    assert [name for name in sorted(NAMES) if template.uses(name)] == ["body", "to"]


def test_the_message_template_that_ships_sends_what_the_twilio_connector_takes() -> None:
    """No reply gets out of a fresh installation."""
    text = (CONFIG / "message.json").read_text(encoding="utf-8")
    template = Template(text, place="message.json", names=NAMES)
    assert template.fill(VALUES | {"body": "hi", "media": ()}) == {
        "To": "+15005550123",
        "From": "+15005550100",
        "Body": "hi",
    }
    assert template.fill(VALUES)["MediaUrl"] == VALUES["media"]
