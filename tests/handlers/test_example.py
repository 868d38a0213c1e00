"""The example handlers that ship, answered as a phone would see it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.handlers.testing import Phones
from service.lab.demo import PHONE, SCRIPT

EXAMPLE = Path(__file__).parents[2] / "config/handlers.py"
HELLO = "Hi! This is Parley. Text ECHO and some words, or ORDER A-1001."
HELP = "I did not get that. Text HELLO, ECHO and some words, or ORDER and its number."


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param("hello", HELLO, id="a greeting"),
        pytest.param("Hi!", HELLO, id="another, with punctuation"),
        pytest.param("HELLO ...", HELLO, id="shouted, with dots"),
        pytest.param("Hi 👋🏽", HELLO, id="with an emoji"),
        pytest.param("echo good morning", "good morning", id="an echo"),
        pytest.param("  Echo  What's 50% of 1+1? ", "What's 50% of 1+1? ", id="an echo, verbatim"),
        pytest.param("ECHO one\ntwo", "one\ntwo", id="an echo of two lines"),
        pytest.param("echo 你好 😊", "你好 😊", id="an echo of other scripts"),
        pytest.param("echo order A-1001", "order A-1001", id="an echo of an order"),
        pytest.param("echo", HELP, id="an echo of nothing"),
        pytest.param("echo  \n", HELP, id="an echo of blanks, which Twilio would refuse"),
        pytest.param("echoes", HELP, id="another word"),
        pytest.param(
            "order A-1001", "Order A-1001 left our warehouse this morning.", id="an order"
        ),
        pytest.param(
            "Where is my order a-1002?",
            "Order A-1002 is waiting for its parts.",
            id="in a sentence",
        ),
        pytest.param("ORDER B-7", "I know no order B-7. Try A-1001.", id="an unknown order"),
        pytest.param("order", HELP, id="an order without a number"),
        pytest.param("reorder A-1001", HELP, id="another word before a number"),
        pytest.param("hello there", HELP, id="anything else"),
        pytest.param("", HELP, id="a picture alone"),
    ],
)
def test_every_route_answers_as_its_docstring_says(body: str, answer: str, phones: Phones) -> None:
    """The first thing a newcomer tries does something else than the file they read."""
    assert phones(PHONE).send(body) == [answer]


def test_the_demo_gets_the_replies_it_expects(phones: Phones) -> None:
    """`parley demo` ends in red."""
    phone = phones(PHONE)
    for body, expected in SCRIPT:
        (reply,) = phone.send(body)
        assert expected in reply


def test_each_text_of_the_demo_shows_another_route(phones: Phones) -> None:
    """The demo leaves a route out, and nobody sees that it works."""
    replies = {reply for body, _ in SCRIPT for reply in phones(PHONE).send(body)}
    assert len(replies) == len(SCRIPT) == EXAMPLE.read_text(encoding="utf-8").count("\n@router.")


def test_who_opted_out_gets_no_second_answer(phones: Phones) -> None:
    """Twilio has answered STOP already; a help text after it is forbidden."""
    phone = phones(PHONE)
    assert phone.send("STOP") == []
    assert phones.dead_letters == []  # No handler was asked: nothing was refused.


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.text(max_size=1_600))
def test_every_text_gets_one_answer_that_can_be_sent(body: str, phones: Phones) -> None:
    """Some text that a person sends ends as a dead letter."""
    # With a messaging service Twilio marks what it has answered: no word is taken for STOP.
    (reply,) = phones(PHONE).send(body, parameters={"MessagingServiceSid": "MG1"})
    assert reply.strip()
    assert len(reply) <= 1_600


def test_a_long_echo_is_split_and_loses_no_word(phones: Phones) -> None:
    """Who pastes a page on the demo's phone gets a dead letter instead of an echo."""
    words = "A long text. " * 400
    replies = phones(PHONE).send(f"echo {words}")
    assert len(replies) > 1
    assert max(map(len, replies)) <= 1_600
    assert " ".join(replies).split() == words.split()


def test_the_example_imports_nothing_but_the_public_api() -> None:
    """Copies of the example break with the next version."""
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"service", "__future__"}
