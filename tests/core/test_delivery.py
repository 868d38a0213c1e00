from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from service.core.delivery import (
    CLOCK_SLACK,
    Verdict,
    candidates,
    fingerprint,
    is_listed,
    judge,
    names_no_cause,
    unrecorded,
)
from service.errors import (
    ConnectorError,
    ConnectorFailed,
    ConnectorForbidden,
    ConnectorOverLimit,
    ConnectorRefused,
    ConnectorThrottled,
    ConnectorUnanswered,
    ConnectorUnreachable,
)
from service.model import Conversation, MessageSid, Outbound, Reply

OURS, THEIRS = "+15005550100", "+15005550123"
MARKED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Row:
    """A row of the message log; of the reply in question unless said otherwise."""

    sid: str = "SM2"
    from_: str = OURS
    to: str = THEIRS
    body: str = "hi"
    direction: str = "outbound-api"
    date_sent: datetime | None = MARKED
    other_id: str = ""


def reply(body: str = "hi") -> Outbound:
    """Make a reply in doubt."""
    media = () if body else ("https://x.example/1.png",)
    return Outbound(Conversation(OURS, THEIRS), Reply(body, media), MessageSid("SM1"), 0)


def found(log: Sequence[Row], body: str = "hi") -> list[str]:
    """Return the sids of what may be the reply."""
    return [row.sid for row in candidates(reply(body), MARKED, log)]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectorUnreachable, Verdict.REPEAT),
        (ConnectorThrottled, Verdict.REPEAT),
        (ConnectorForbidden, Verdict.REPEAT),
        (ConnectorUnanswered, Verdict.ASK),
        (ConnectorFailed, Verdict.ASK),
        (ConnectorOverLimit, Verdict.ASK),
        (ConnectorRefused, Verdict.BURY),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.value,
)
def test_every_error_has_its_verdict(error: type[ConnectorError], verdict: Verdict) -> None:
    """A reply is sent twice, or given up while the connector was only busy."""
    assert judge(error("said")) is verdict


@pytest.mark.parametrize(
    ("kind", "code", "verdict"),
    [
        pytest.param(ConnectorRefused, 21611, Verdict.REPEAT, id="queue full"),
        pytest.param(ConnectorRefused, 20429, Verdict.REPEAT, id="throttled, as a 400"),
        pytest.param(ConnectorRefused, 30001, Verdict.REPEAT, id="queue overflow"),
        pytest.param(ConnectorRefused, 20003, Verdict.REPEAT, id="the account's token"),
        pytest.param(ConnectorRefused, 21610, Verdict.BURY, id="opted out"),
        pytest.param(ConnectorForbidden, 21408, Verdict.BURY, id="country not allowed, as a 403"),
        pytest.param(ConnectorForbidden, 20003, Verdict.REPEAT, id="the account's token, as a 401"),
        pytest.param(ConnectorRefused, 29999, Verdict.BURY, id="unknown code"),
        pytest.param(ConnectorForbidden, 29999, Verdict.BURY, id="unknown code, as a 403"),
        pytest.param(ConnectorFailed, 21611, Verdict.ASK, id="a 500 stays in doubt"),
    ],
)
def test_twilio_fact_12_a_code_of_twilio_decides_over_a_refusal(
    kind: type[ConnectorError], code: int, verdict: Verdict
) -> None:
    """A full queue loses texts to the dead letters, or an opted-out number blocks for ever."""
    assert judge(kind("said", status=400, code=code)) is verdict


def test_no_kind_of_connector_error_is_forgotten_above() -> None:
    """A new kind of error would be repeated for ever by default."""
    judged = {"Unreachable", "Throttled", "Forbidden", "Unanswered", "Failed", "Refused"}
    judged.add("OverLimit")
    assert {kind.__name__ for kind in ConnectorError.__subclasses__()} == {
        f"Connector{name}" for name in judged
    }


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(Row(), id="sent at once"),
        pytest.param(Row(direction="outbound-reply"), id="as a reply"),
        pytest.param(Row(date_sent=None), id="queued, without a date"),
        pytest.param(Row(date_sent=MARKED + timedelta(hours=10)), id="sent hours later"),
        pytest.param(Row(date_sent=MARKED - CLOCK_SLACK), id="by a slow clock"),
        pytest.param(
            Row(date_sent=MARKED.astimezone(tz=datetime.now().astimezone().tzinfo)),
            id="in another time zone",
        ),
    ],
)
def test_a_reply_that_went_out_is_found(row: Row) -> None:
    """Somebody is texted the same thing twice after a time-out."""
    assert found([row]) == [row.sid]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(Row(direction="inbound"), id="came in"),
        pytest.param(Row(direction=""), id="went nobody knows where"),
        pytest.param(Row(from_="+15005550199"), id="from another number of ours"),
        pytest.param(Row(to="+15005550199"), id="to somebody else"),
        pytest.param(Row(to=f"whatsapp:{THEIRS}"), id="over another channel"),
        pytest.param(Row(body="Hi"), id="with another text"),
        pytest.param(Row(date_sent=MARKED - CLOCK_SLACK - SECOND), id="before"),
        pytest.param(Row(from_=THEIRS, to=OURS), id="the other way"),
    ],
)
def test_another_message_is_not_mistaken_for_it(row: Row) -> None:
    """A reply that never went out is taken for sent, and is lost."""
    assert found([row]) == []


def test_several_that_match_come_oldest_first_with_queued_ones_by_their_mark() -> None:
    """Of two equal replies, the second is taken for the first."""
    log = [
        Row("later", date_sent=MARKED + SECOND),
        Row("queued", date_sent=None),
        Row("other", body="no"),
        Row("earlier", date_sent=MARKED - SECOND),
    ]
    assert found(log) == ["earlier", "queued", "later"]


def test_a_picture_alone_is_found_by_its_empty_text() -> None:
    """Pictures in doubt are always sent twice."""
    assert found([Row(body=""), Row("x", body="hi")], "") == ["SM2"]


def test_an_empty_log_has_no_candidates() -> None:
    """A reply in doubt that never went out is lost."""
    assert found([]) == []


@pytest.mark.parametrize(
    ("known", "posted", "mine"),
    [
        pytest.param([], [], "SM1", id="none recorded"),
        pytest.param(["SM1"], [], "SM2", id="the first recorded by its sid"),
        pytest.param(["SM1", "SM2"], [], "SM3", id="two"),
        pytest.param(["714"], ["714"], "SM2", id="by the other id that the log has as well"),
        pytest.param([], ["9"], "SM2", id="by an id that the log does not have"),
        pytest.param(["SM1"], ["9"], "SM3", id="one of each"),
        pytest.param(["SM1", "SM2"], ["9"], None, id="all of them"),
        pytest.param([], ["7", "8", "9"], None, id="all of them, by ids it does not have"),
    ],
)
def test_open_connectors_fact_19_rows_of_replies_recorded_before_are_left_out(
    known: list[str], posted: list[str], mine: str | None
) -> None:
    """A reply is taken for an earlier one with the same words, and is never sent."""
    rows = [Row("SM1", other_id="714"), Row("SM2"), Row("SM3")]
    row = unrecorded(rows, frozenset(known), posted)
    assert (row.sid if row else None) == mine


def test_open_connectors_fact_19_only_twilios_sids_are_sure_to_be_in_the_log() -> None:
    """Every reply would be kept twice, or one in doubt be confused with another."""
    assert is_listed("SM" + "0f" * 16)
    assert is_listed("MM" + "0f" * 16)
    for other in ("714", "unnamed-SM1-0", "SM1", "", "SM" + "0f" * 17):
        assert not is_listed(other)
    assert fingerprint(reply()) == fingerprint(reply())
    assert fingerprint(reply()) != fingerprint(reply("ho"))


@pytest.mark.parametrize(
    ("error", "without_cause"),
    [
        pytest.param(ConnectorThrottled("429"), True, id="nothing is said"),
        pytest.param(ConnectorThrottled("Too many requests"), False, id="the rate"),
        pytest.param(
            ConnectorThrottled("429", provider_message="rate limit exceeded"), False, id="Twilio's"
        ),
        pytest.param(ConnectorThrottled("429", retry_after_s=2), False, id="when"),
        pytest.param(ConnectorThrottled("429", code=20429), False, id="a code"),
        pytest.param(ConnectorFailed("500"), False, id="another failure"),
    ],
)
def test_a_429_that_speaks_of_the_rate_is_not_about_the_reply(error, without_cause):
    """A burst would turn healthy replies into dead letters."""
    assert names_no_cause(error) is without_cause
