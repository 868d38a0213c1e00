from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.twilio.callback import REQUIRED, is_status
from service.core.twilio.canonical import DOCUMENTED, check_canonical
from service.core.twilio.forms import Pairs, parse
from service.core.twilio.signature import signed_text
from service.errors import CallbackForged

SAMPLES = sorted((Path(__file__).parents[2] / "samples" / "twilio").glob("*.form"))
INBOUND = Path(__file__).parents[2] / "samples" / "twilio" / "inbound_sms.form"
STATUS = INBOUND.with_name("status_delivered.form")


def pairs_of(path: Path) -> list[tuple[str, str]]:
    """Read a recorded form."""
    return parse(path.read_bytes().rstrip(b"\n"))


def hidden(pairs: Pairs) -> str:
    """Say what is refused about a form; "" for one that is let in."""
    try:
        check_canonical(pairs, dict(pairs))
    except CallbackForged as error:
        return str(error)
    return ""


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_what_twilio_really_sends_is_let_in(sample: Path) -> None:
    """Refusing a genuine callback loses its text: Twilio does not ask again after a 403."""
    assert hidden(pairs_of(sample)) == ""


GENUINE = {
    "a parameter that is new": {"FromCarrier": "Example Wireless", "Zulu": "1"},
    "a new parameter that begins as an old one": {"BodyLanguage": "de", "ToTimezone": "UTC"},
    "a text about parameters": {"Body": "MessageSidSM" + "0" * 32 + "NumMedia0From+1415"},
    "a text that ends in a name": {"Body": "yours, From"},
    "add-ons": {"AddOns": '{"status":"successful","results":{"x":{"request_sid":"XR1"}}}'},
    "a short code": {"To": "72345"},
    "a sender's name": {"From": "AT&T 2"},
    "a channel": {"From": "messenger:1234567890", "To": "rcs:brand_x"},
    "a WhatsApp user without a number": {"From": "whatsapp:US.13491208655302741918"},
    "a small town": {"FromCity": "Truth or Consequences", "ToCity": "Tomah"},
    "an eleventh parameter of a referral": {"ReferralBody": "See MessageSid"},
    "a type with a line in it": {"MediaContentType0": "application/x_y", "MessageType": "x_Y"},
    "no places": dict.fromkeys(["FromCity", "ToCity", "FromZip", "ToZip"], ""),
}


@pytest.mark.parametrize("changes", GENUINE.values(), ids=GENUINE)
def test_twilio_fact_03_what_twilio_may_send_one_day_is_let_in(changes: dict[str, str]) -> None:
    """Twilio adds parameters without notice; each would lose every text."""
    assert hidden(list((dict(pairs_of(INBOUND)) | changes).items())) == ""


def changed(**changes: str | None) -> list[tuple[str, str]]:
    """Return an ordinary text with other values; None leaves a parameter out."""
    fields = dict(pairs_of(INBOUND)) | changes
    return [(name, value) for name, value in fields.items() if value is not None]


SID = dict(pairs_of(INBOUND))["MessageSid"]

FORGED = {
    "a sid that swallowed NumMedia": changed(MessageSid=SID + "NumMedia0", NumMedia=None),
    "a sid cut short": changed(MessageSid=SID[:-1]),
    "a sid of something else": changed(MessageSid="SC" + SID[2:]),
    "another SmsSid": changed(SmsSid="SM" + "0" * 32),
    "another SmsMessageSid": changed(SmsMessageSid="SM" + "0" * 32),
    "a count that swallowed a sid": changed(NumSegments=f"1SmsMessageSid{SID}", SmsMessageSid=None),
    "an address that swallowed a place": changed(From="+12125550123FromCityNEW", FromCity=None),
    "a channel that swallowed a place": changed(From="rcs:x,FromCityNEW", FromCity=None),
    "a version that swallowed the text": changed(ApiVersion="2010-04-01BodyHi", Body=None),
    "add-ons that swallowed the text": changed(AddOns="{}ApiVersionv1BodyHi", Body=None),
    "a place that swallowed pictures": changed(FromZip="10001MediaContentType0image/png"),
    "a type that swallowed its picture": changed(
        MediaContentType0="image/pngMediaUrl0https://media.example/1"
    ),
    "a name cut in two": [*changed(Body="HiFrom", FromCity=None), ("City", "NEW YORK")],
    "a name that took its value": [*changed(NumMedia=None), ("NumMedia0", "")],
    "a name that gave half of itself": [*changed(NumMedia=None), ("NumMe", "dia0")],
    "a parameter without a name": [*changed(AccountSid=None), ("", "AccountSidAC" + "1f" * 16)],
    "a report without its status": [
        (name, value) for name, value in pairs_of(STATUS) if name != "MessageStatus"
    ],
    "a report whose status became a name": [
        (name, value) if name != "MessageStatus" else (f"{name}{value}", "")
        for name, value in pairs_of(STATUS)
    ],
    "a sid twice": [*changed(), ("MessageSid", "SM" + "0" * 32)],
    "the same account twice": [*changed(), ("AccountSid", "AC" + "1f" * 16)],
    "two texts": [*changed(), ("Body", "other")],
    "a whole other text, and ours in a name": [
        *changed(MessageSid="SM" + "0" * 32, SmsSid=None, SmsMessageSid=None),
        (f"ZuluFrom+12125550123MessageSid{SID}ToCountryUS", ""),
    ],
    "a whole other text around ours": [
        *changed(MessageSid="SM" + "0" * 32, SmsSid=None, SmsMessageSid=None),
        ("Zulu", f"From+12125550123MessageSid{SID}"),
    ],
}


@pytest.mark.parametrize("pairs", FORGED.values(), ids=FORGED)
def test_a_rearranged_form_is_refused(pairs: Pairs) -> None:
    """One captured callback would be answered as often as somebody sends it."""
    assert hidden(pairs)


@pytest.mark.parametrize("pairs", FORGED.values(), ids=FORGED)
def test_the_reason_quotes_no_value(pairs: Pairs) -> None:
    """It is logged, and the value may be somebody's text."""
    assert not any(len(value) > 4 and value in hidden(pairs) for _, value in pairs)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_parameter_is_left_to_the_parser(name: str) -> None:
    """It would be called a forgery, where a relay has only dropped a field."""
    assert hidden(changed(**{name: None})) == hidden(changed(**{name: ""})) == ""


def rearranged(text: str, dice: random.Random) -> Iterator[list[tuple[str, str]]]:
    """Yield other forms with this signed text: each name and value cut where the dice say.

    Most cuts are beside a name that Twilio knows, as an attacker would place them.
    """
    near = sorted(
        {
            place + offset
            for name in DOCUMENTED
            for start in range(len(text))
            if text.startswith(name, start)
            for place in (start, start + len(name))
            for offset in (-1, 0, 1)
            if 0 < place + offset < len(text)
        }
    )
    while True:
        count = dice.randint(2, 24)
        cuts = sorted(
            {
                dice.choice(near) if dice.random() < 0.95 else dice.randrange(1, len(text))
                for _ in range(2 * count)
            }
        )
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        if len(pieces) % 2:
            pieces.append("")
        yield list(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_whatever_fits_a_genuine_signature_is_the_same_message(sample: Path, seed: int) -> None:
    """Replayed under another sid, or as a text where it was a report, it would be answered."""
    genuine = pairs_of(sample)
    wanted = dict(genuine)
    text = signed_text(genuine).decode()
    forms = rearranged(text, random.Random(seed))
    for _ in range(100):
        pairs = next(forms)
        if signed_text(pairs).decode() != text or hidden(pairs):
            continue
        fields = dict(pairs)
        if all(fields.get(name) for name in REQUIRED):
            assert {name: fields[name] for name in REQUIRED} == {
                name: wanted[name] for name in REQUIRED
            }
            assert is_status(fields) == is_status(wanted)


def moved(pairs: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield every form with one boundary of the sorted form moved, or one parameter swallowed."""
    ordered = sorted(pairs)
    for place, (name, value) in enumerate(ordered):
        whole = name + value
        for cut in range(len(whole) + 1):
            yield [*ordered[:place], (whole[:cut], whole[cut:]), *ordered[place + 1 :]]
        if place:
            before, rest = ordered[place - 1], ordered[place + 1 :]
            for cut in range(1, len(whole) + 1):
                kept = [(whole[cut:], "")] if cut < len(whole) else []
                for middle in range(cut + 1, len(whole)):
                    swallowed = (before[0], before[1] + whole[:cut])
                    cut_in_two = (whole[cut:middle], whole[middle:])
                    yield [*ordered[: place - 1], swallowed, cut_in_two, *rest]
                yield [*ordered[: place - 1], (before[0], before[1] + whole[:cut]), *kept, *rest]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_no_single_move_of_a_boundary_changes_who_and_what(sample: Path) -> None:
    """The smallest change an attacker can make, tried in every place."""
    genuine = pairs_of(sample)
    wanted = dict(genuine)
    text = signed_text(genuine)
    tried = 0
    for pairs in moved(genuine):
        fields = dict(pairs)
        if not all(fields.get(name) for name in REQUIRED) or signed_text(pairs) != text:
            continue
        tried += 1
        if not hidden(pairs):
            assert [fields[name] for name in REQUIRED] == [wanted[name] for name in REQUIRED]
            assert is_status(fields) == is_status(wanted)
            assert fields.get("OptOutType") == wanted.get("OptOutType")
            assert fields.get("MediaUrl0") == wanted.get("MediaUrl0")
    assert tried > 20
