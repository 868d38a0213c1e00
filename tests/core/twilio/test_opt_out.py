"""Which texts Twilio answers itself."""

from __future__ import annotations

import pytest

from service.core.twilio import opt_out
from service.core.twilio.opt_out import START_IF_OUT, WORDS, judge, kind_of
from service.model import Message
from service.settings.table import Settings
from tests.core.test_matching import text

OURS = "+15005550100"
POOLED = {"MessagingServiceSid": "MG" + "2e" * 16}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        pytest.param(text("STOP"), "STOP", id="STOP"),
        pytest.param(text(" stop\n"), "STOP", id="case and blanks"),
        pytest.param(text("OptOut"), "STOP", id="OPTOUT"),
        pytest.param(text("yes"), START_IF_OUT, id="YES, from whom"),
        pytest.param(text("Start "), START_IF_OUT, id="START, from whom"),
        pytest.param(text("START", OptOutType="START"), "START", id="START that it took"),
        pytest.param(text("YES", OptOutType="HELP"), "HELP", id="its word counts, not ours"),
        pytest.param(text("YES", **POOLED), "", id="YES to a messaging service that did not act"),
        pytest.param(text("Info"), "HELP", id="INFO"),
        pytest.param(text("stop it"), "", id="more than the word"),
        pytest.param(text("Stop."), "", id="punctuation is not looked away from"),
        pytest.param(text(""), "", id="a picture alone"),
        pytest.param(text("STOP", to="72345"), "", id="a short code"),
        pytest.param(text("STOP", to=f"whatsapp:{OURS}"), "", id="a channel"),
        pytest.param(text("STOP", **POOLED), "", id="a messaging service that did not act"),
        pytest.param(text("ARRET", **POOLED, OptOutType="STOP"), "STOP", id="one that did"),
        pytest.param(text("hi", OptOutType="help"), "HELP", id="it says so"),
    ],
)
def test_twilio_fact_11_what_twilio_answers_is_known(message: Message, kind: str) -> None:
    """A second answer after STOP is forbidden; silence after "yes please" is a lost text."""
    assert kind_of(message) == kind


@pytest.mark.parametrize("opted_out", [True, False])
def test_twilio_fact_14_a_yes_is_twilios_from_somebody_opted_out_and_ours_from_anybody_else(
    opted_out: bool,
) -> None:
    """A dialog that asks "Confirm? YES" would wait for ever, or answer what Twilio has answered."""
    assert judge(START_IF_OUT, opted_out=opted_out) == ("START" if opted_out else "")
    for kind in ("STOP", "START", "HELP", ""):
        assert judge(kind, opted_out=opted_out) == kind


def test_the_words_are_the_accounts_own() -> None:
    """Support changes them for an account; the default would swallow or answer the wrong ones."""
    assert kind_of(text("YES"), {"STOP", "BASTA"}) == ""
    assert kind_of(text("basta"), {"STOP", "BASTA"}) == "STOP"
    assert kind_of(text("STOP"), frozenset()) == ""


def test_the_setting_begins_as_twilio_documents_it() -> None:
    """The two lists would drift apart."""
    default = Settings.model_fields["opt_out_words"].default
    assert frozenset(default.split()) == WORDS


@pytest.mark.parametrize(
    ("kind", "answered", "out", "back"),
    [
        pytest.param("", False, False, False, id="a text of ours"),
        pytest.param("STOP", True, True, False, id="STOP"),
        pytest.param("START", True, False, True, id="START"),
        pytest.param("HELP", True, False, False, id="HELP"),
        pytest.param("LATER", True, False, False, id="one that Twilio may add"),
    ],
)
def test_what_a_kind_means(kind: str, *, answered: bool, out: bool, back: bool) -> None:
    """Somebody is answered twice, or stays on the list, or off it, by mistake."""
    found = opt_out.is_answered(kind), opt_out.opts_out(kind), opt_out.opts_in(kind)
    assert found == (answered, out, back)
