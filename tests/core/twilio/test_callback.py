from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.core.twilio.callback import check_account, is_status, parse_inbound
from service.core.twilio.forms import parse
from service.errors import AccountRejected, CallbackIncomplete
from service.model import Conversation, Media

SAMPLES = Path(__file__).parents[2] / "samples" / "twilio"
ACCOUNT = "AC" + "1f" * 16
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def sample(name: str) -> dict[str, str]:
    """Read a recorded form by name."""
    return dict(parse((SAMPLES / f"{name}.form").read_bytes().rstrip(b"\n")))


def test_twilio_fact_09_an_inbound_text_becomes_a_message_with_everything_in_it() -> None:
    """A handler sees the text exactly as typed, the two numbers, and whatever else Twilio said."""
    fields = sample("inbound_sms")
    message = parse_inbound(fields, NOW)
    assert message.sid == "SM" + "a1" * 16
    assert message.conversation == Conversation(ours="+14155550100", theirs="+12125550123")
    assert message.body == "What's 50% of 1+1? Grüße, 你好 😊\nline two "
    assert message.media == ()
    assert message.account == ACCOUNT
    assert message.received_at == NOW
    assert message.raw["FromCity"] == "NEW YORK"
    assert message.raw == fields


def test_pictures_are_kept_in_order_with_their_types() -> None:
    """A handler that forwards pictures would mix them up or lose one."""
    media = parse_inbound(sample("inbound_mms"), NOW).media
    assert [m.content_type for m in media] == ["image/jpeg", "image/png"]
    assert [m.url[-32:] for m in media] == ["0a" * 16, "0b" * 16]


def test_twilio_fact_09_a_picture_alone_has_an_empty_body() -> None:
    """Twilio leaves Body out then; refusing the callback would lose the picture."""
    message = parse_inbound(sample("inbound_picture_alone"), NOW)
    assert message.body == ""
    assert len(message.media) == 1


def test_a_picture_of_unknown_type_is_kept() -> None:
    """Losing an attachment for want of its MIME type would be a silent loss."""
    fields = sample("inbound_sms") | {"MediaUrl0": "https://x.example/1"}
    assert parse_inbound(fields, NOW).media == (Media("https://x.example/1", ""),)


@pytest.mark.parametrize(
    ("name", "from_", "to"),
    [
        ("inbound_whatsapp", "whatsapp:+12125550123", "whatsapp:+14155550100"),
        ("inbound_opt_out", "+12125550123", "72345"),
        ("inbound_blank_places", "+447700900123", "+14155550100"),
    ],
)
def test_addresses_are_taken_as_they_are(name: str, from_: str, to: str) -> None:
    """A "corrected" channel address or short code could not be answered."""
    message = parse_inbound(sample(name), NOW)
    assert (message.from_, message.to) == (from_, to)


@pytest.mark.parametrize("blank", [False, True], ids=["absent", "empty"])
@pytest.mark.parametrize("name", ["MessageSid", "From", "To"])
def test_a_missing_parameter_is_named(name: str, blank: bool) -> None:
    """Whoever relays callbacks to us learns what their relay drops."""
    fields = sample("inbound_sms")
    del fields[name]
    if blank:
        fields[name] = ""
    with pytest.raises(CallbackIncomplete, match=f"^missing {name}$"):
        parse_inbound(fields, NOW)


def test_all_missing_parameters_are_named_at_once() -> None:
    """Mending a relay one parameter at a time wastes an afternoon."""
    with pytest.raises(CallbackIncomplete, match="MessageSid, From, To"):
        parse_inbound({"SmsMessageSid": "SM1", "Body": "x"}, NOW)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(path.stem, path.stem.startswith("status")) for path in sorted(SAMPLES.glob("*.form"))],
)
def test_a_delivery_report_is_told_from_a_message(name: str, expected: bool) -> None:
    """A report taken for a message would be answered: people get texts they never asked for."""
    assert is_status(sample(name)) is expected


def test_an_inbound_message_stays_one_when_a_status_is_added() -> None:
    """Twilio adds parameters without notice; a message taken for a report is a lost text."""
    assert not is_status(sample("inbound_sms") | {"MessageStatus": "received"})


def test_our_own_account_is_let_in() -> None:
    """Refusing our own account would refuse every text."""
    check_account(sample("inbound_sms"), ACCOUNT)


@pytest.mark.parametrize("found", ["AC" + "0" * 32, ACCOUNT.lower(), ACCOUNT + " ", "", None])
def test_another_account_is_refused(found: str | None) -> None:
    """A neighbour's messages would be answered with our handlers and billed to us."""
    fields = sample("inbound_sms")
    del fields["AccountSid"]
    if found is not None:
        fields["AccountSid"] = found
    with pytest.raises(AccountRejected):
        check_account(fields, ACCOUNT)
