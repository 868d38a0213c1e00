"""Which texts Twilio answers itself."""

from __future__ import annotations

import pytest

from service.core.opt_out import WORDS, kind_of
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
        pytest.param(text("yes"), "START", id="YES opts in again"),
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
def test_twilio_fact_11_what_twilio_answers_is_known(message, kind):
    """A second answer after STOP is forbidden; silence after "yes please" is a lost text."""
    assert kind_of(message) == kind


def test_the_words_are_the_accounts_own():
    """Support changes them for an account; the default would swallow or answer the wrong ones."""
    assert kind_of(text("YES"), {"STOP", "BASTA"}) == ""
    assert kind_of(text("basta"), {"STOP", "BASTA"}) == "STOP"
    assert kind_of(text("STOP"), frozenset()) == ""


def test_the_setting_begins_as_twilio_documents_it():
    """The two lists would drift apart."""
    default = Settings.model_fields["opt_out_words"].default
    assert frozenset(default.split()) == WORDS
