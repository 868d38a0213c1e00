from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.core.delivery import (
    CLOCK_SLACK,
    Posted,
    Told,
    Verdict,
    account,
    candidates,
    fingerprint,
    is_listed,
    judge,
    lately,
    names_no_cause,
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
from service.model import Conversation, EntryId, MessageSid, Outbound, Reply

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


ARRIVAL = timedelta(seconds=15)
REACH = ARRIVAL + 2 * CLOCK_SLACK
"""After this much a POST in doubt can't have a row as late as that of the one that follows."""


def posted(*marks: tuple[timedelta, str]) -> list[Posted]:
    """Make earlier POSTs: how long before the mark, and what each was recorded under."""
    return [
        Posted(EntryId(f"{n}-0"), MARKED - ago, MARKED - ago, id_)
        for n, (ago, id_) in enumerate(marks)
    ]


def told(
    log: Sequence[Row], earlier: Sequence[Posted], known: Sequence[str] = ()
) -> tuple[Told, str | None]:
    """Tell of the reply in doubt, as the sender does: its row's sid, or why there is none."""
    relevant = lately(earlier, MARKED)
    since = min([MARKED, *(each.at for each in relevant)])
    rows = candidates(reply(), MARKED, log, since)
    verdict, row = account(rows, frozenset(known), relevant, MARKED, ARRIVAL)
    return verdict, row.sid if row else None


MINUTE = timedelta(minutes=1)
SURE, OPEN = "714", ""


@pytest.mark.parametrize(
    ("known", "earlier", "rows", "expected"),
    [
        pytest.param([], [], 0, Told.UNSENT, id="no row"),
        pytest.param([], [], 1, Told.SENT, id="a row of its own"),
        pytest.param(["SM0"], [], 1, Told.UNSENT, id="the row is recorded by its sid"),
        pytest.param(["SM0"], [], 2, Told.SENT, id="one of two is"),
        pytest.param([], [SURE], 1, Told.UNSENT, id="sent under an id that the log does not have"),
        pytest.param([], [SURE], 2, Told.SENT, id="and one of its own"),
        pytest.param(["714"], [SURE], 1, Told.UNSENT, id="the log has that id as a second one"),
        pytest.param(["714"], [SURE], 2, Told.SENT, id="as a second one, and one of its own"),
        pytest.param(["SM0"], [SURE], 2, Told.UNSENT, id="one by its sid, one by its words"),
        pytest.param([], [SURE] * 3, 3, Told.UNSENT, id="three by their words"),
        pytest.param([], [SURE] * 3, 4, Told.SENT, id="and one more"),
        pytest.param([], [OPEN], 0, Told.UNSENT, id="one in doubt before it, neither went out"),
        pytest.param([], [OPEN], 1, Told.NOTHING, id="one of the two went out"),
        pytest.param([], [OPEN], 2, Told.SENT, id="both did"),
        pytest.param([], [OPEN, SURE], 1, Told.UNSENT, id="the row is that of the one sent"),
        pytest.param([], [OPEN, SURE], 2, Told.NOTHING, id="one row more than sent"),
        pytest.param([], [OPEN, SURE], 3, Told.SENT, id="rows for all"),
        pytest.param(["SM0"], [OPEN], 1, Told.UNSENT, id="one in doubt, another known by its sid"),
    ],
)
def test_open_connectors_fact_19_rows_are_counted_whatever_their_names(
    known: list[str], earlier: list[str], rows: int, expected: Told
) -> None:
    """A reply is taken for an earlier one with the same words, and is never sent; or sent twice."""
    log = [Row(f"SM{n}", other_id="" if n else "714") for n in range(rows)]
    verdict, _ = told(log, posted(*((SECOND, id_) for id_ in earlier)), known)
    assert verdict is expected


@pytest.mark.parametrize(
    ("ago", "row_ago", "expected"),
    [
        pytest.param(REACH + SECOND, REACH, (Told.UNSENT, None), id="the row is of its time"),
        pytest.param(REACH + SECOND, -SECOND, (Told.SENT, "SM2"), id="the row is of our time"),
        pytest.param(MINUTE, -SECOND, (Told.NOTHING, None), id="too close to tell"),
        pytest.param(5 * MINUTE, 3 * MINUTE, (Told.UNSENT, None), id="before we marked"),
    ],
)
def test_times_decide_whose_row_it_is_when_one_before_it_stayed_in_doubt(
    ago: timedelta, row_ago: timedelta, expected: tuple[Told, str | None]
) -> None:
    """After one reply was held as a dead letter, each equal one would be held, lost or doubled."""
    log = [Row(date_sent=MARKED - row_ago)]
    assert told(log, posted((ago, OPEN))) == expected


def test_a_reply_sent_under_another_name_has_a_row_however_late_twilio_dates_it() -> None:
    """Queued at Twilio, its row is taken for that of the next one, which is never sent."""
    earlier = posted((30 * MINUTE, SURE))
    assert told([Row()], earlier) == (Told.UNSENT, None)
    assert told([Row("SM1"), Row()], earlier) == (Told.SENT, "SM2")


def test_a_reply_in_doubt_explains_a_row_that_one_recorded_later_could_explain_too() -> None:
    """The reply recorded takes the only row that the one in doubt could have: a text is lost."""
    earlier = posted((3 * MINUTE, SURE), (3 * MINUTE - SECOND, OPEN))
    log = [Row("SM1", date_sent=MARKED - MINUTE), Row()]
    assert told(log, earlier) == (Told.NOTHING, None)


def test_a_row_of_a_reply_sent_long_ago_is_not_taken_for_this_one() -> None:
    """It is not counted any more, and its row pushed this one's count by one: a text is lost."""
    hour = 60 * MINUTE
    earlier = posted((hour + MINUTE, SURE), (hour - MINUTE, SURE))
    log = [Row("SM8", date_sent=each.at) for each in earlier]
    assert told(log, earlier) == (Told.UNSENT, None)
    closely = posted(*((n * MINUTE, SURE) for n in range(90, 0, -1)))
    log = [Row("SM8", date_sent=each.at) for each in closely]
    assert told(log, closely) == (Told.UNSENT, None)
    assert told([*log, Row()], closely) == (Told.SENT, "SM2")


@pytest.mark.parametrize("row_ago", [SECOND, 30 * MINUTE], ids=["of now", "of before"])
def test_one_in_doubt_that_nobody_knows_the_time_of_may_have_any_row(row_ago: timedelta) -> None:
    """Redis's clock was put back: the row of the other is taken for this one's, which is lost."""
    other = Posted(EntryId("0-0"), MARKED - 61 * MINUTE, MARKED, OPEN)
    verdict, _ = told([Row(date_sent=MARKED - row_ago)], [other])
    assert verdict is (Told.NOTHING if row_ago == SECOND else Told.UNSENT)
    assert told([Row(date_sent=MARKED - row_ago), Row()], [other]) == (Told.SENT, "SM2")


def test_what_was_posted_long_before_is_not_read_back_to() -> None:
    """Each doubt would read the log of a week, and fail where that is too long."""
    earlier = posted((50 * 60 * MINUTE, SURE), (30 * MINUTE, OPEN), (MINUTE, SURE))
    assert [each.at for each in reversed(lately(earlier, MARKED))] == [
        MARKED - 30 * MINUTE,
        MARKED - MINUTE,
    ]


@dataclass
class Connection:
    """A connector with a log, and what is known here of replies that say the same.

    skew: by how much its clock is ahead. Each reply is marked `gap` after the one before it has
    arrived, or can't any more.
    """

    skew: timedelta
    now: datetime = MARKED
    log: list[Row] = field(default_factory=list)
    earlier: list[Posted] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def post(self, gap: timedelta, *, out: bool, took: timedelta) -> datetime:
        """POST a reply, which goes out or does not; returns when it was marked."""
        self.now += gap
        marked_at = self.now
        self.now += took
        if out:
            # In whole seconds, as Twilio dates.
            dated = (self.now + self.skew).replace(microsecond=0)
            self.log.append(Row(f"SM{len(self.log)}", date_sent=dated))
        self.now = marked_at + max(took, ARRIVAL)
        return marked_at

    def keep(self, marked_at: datetime, connector_id: str) -> None:
        """Remember a POST that no sid names."""
        entry = EntryId(f"{len(self.earlier)}-0")
        self.earlier.append(Posted(entry, marked_at, marked_at, connector_id))

    def look(self, marked_at: datetime) -> tuple[Told, Row | None]:
        """Look a reply in doubt up, as the sender does."""
        relevant = lately(self.earlier, marked_at)
        since = min([marked_at, *(each.at for each in relevant)])
        rows = candidates(reply(), marked_at, self.log, since)
        return account(rows, self.known, relevant, marked_at, ARRIVAL)


LIVES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 30, 150, 600, 3_500, 3_700]),  # seconds after the last
        st.sampled_from(["by sid", "by words", "by both ids", "refused", "held", "looked up"]),
        st.booleans(),  # whether it went out, where that is open
        st.floats(0, ARRIVAL.total_seconds()),  # how long it took
    ),
    max_size=14,
)


@given(LIVES, st.floats(-1, 1))
@example([(1, "by words", True, 0.1), (1, "looked up", False, 0.1)], 0.0)
@example([(1, "held", True, 0.1), (600, "looked up", False, 0.1)], 0.5)
@example([(1, "held", True, 0.1), (1, "looked up", False, 0.1)], 0.5)
@example([(1, "held", False, 0.1), (600, "looked up", True, 0.1)], -0.5)
@example([(0, "by words", True, 0), (0, "held", False, 0), (600, "looked up", True, 0)], 0.0)
def test_whatever_becomes_of_equal_replies_none_is_lost_and_none_is_doubled(
    life: list[tuple[int, str, bool, float]], skew: float
) -> None:
    """A conversation that repeats a text loses a reply, or gets one twice."""
    there = Connection(skew * (CLOCK_SLACK - SECOND))
    for gap_s, fate, out, took_s in life:
        went_out = out if fate in {"held", "looked up"} else fate != "refused"
        gap, took = timedelta(seconds=gap_s), timedelta(seconds=took_s)
        marked_at = there.post(gap, out=went_out, took=took)
        if fate == "by sid":
            there.known.add(there.log[-1].sid)
        elif fate == "by words":
            there.keep(marked_at, f"unnamed-{len(there.log)}")
        elif fate == "by both ids":
            there.log[-1] = replace(there.log[-1], other_id=str(len(there.log)))
            there.known.add(str(len(there.log)))
            there.keep(marked_at, str(len(there.log)))
        elif fate == "held":
            there.keep(marked_at, "")
        elif fate == "looked up":
            verdict, row = there.look(marked_at)
            # Its row may be theirs: they were sent under a name that the log does not have.
            surely = [
                each.at
                for each in there.earlier
                if each.connector_id and each.connector_id not in there.known
            ]
            close = [
                each
                for each in there.earlier
                if not each.connector_id and each.at >= min([marked_at, *surely]) - REACH
            ]
            if verdict is Told.NOTHING:
                assert close, "times tell, and nothing was told"
                there.keep(marked_at, "")
            else:
                assert verdict is (Told.SENT if went_out else Told.UNSENT)
            if row:
                there.known.add(row.sid)


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
def test_a_429_that_speaks_of_the_rate_is_not_about_the_reply(
    error: ConnectorThrottled | ConnectorFailed, without_cause: bool
) -> None:
    """A burst would turn healthy replies into dead letters."""
    assert names_no_cause(error) is without_cause
