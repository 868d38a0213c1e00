"""Which route a text takes."""

from __future__ import annotations

import re
import string
import timeit
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.matching import (
    Default,
    Keyword,
    Matcher,
    Pattern,
    To,
    conflicts,
    find,
    normalise,
    shadows,
)
from service.model import Message, MessageSid

OURS = "+15005550100"


def text(body: str, to: str = OURS, **raw: str) -> Message:
    """Make an inbound text."""
    return Message(
        sid=MessageSid("SM1"),
        from_="+15005550123",
        to=to,
        body=body,
        media=(),
        account="AC1",
        received_at=datetime(2026, 5, 4, tzinfo=UTC),
        raw=raw,
    )


def pattern(expression: str) -> Pattern:
    """Make a route as the router makes it of a string."""
    return Pattern(re.compile(expression, re.IGNORECASE))


@pytest.mark.parametrize(
    ("typed", "counts"),
    [
        pytest.param("balance", "BALANCE", id="case"),
        pytest.param("  Balance \n", "BALANCE", id="blanks around"),
        pytest.param("b a l-a n c e", "BALANCE", id="blanks and dashes between"),
        pytest.param("“Balance!”…", "BALANCE", id="typographic punctuation"),
        pytest.param("What's up?", "WHATSUP", id="an apostrophe"),
        pytest.param("What’s up?", "WHATSUP", id="a typographic apostrophe"),
        pytest.param("What´s up?", "WHATSUP", id="an acute accent typed for an apostrophe"),
        pytest.param("What`s up¨?", "WHATSUP", id="other lone accents"),
        pytest.param("ＢＡＬＡＮＣＥ", "BALANCE", id="full-width letters of Asian keyboards"),
        pytest.param("𝐁𝐚𝐥𝐚𝐧𝐜𝐞", "BALANCE", id="ornamental letters"),
        pytest.param("ﬁne", "FINE", id="a ligature"),
        pytest.param("Straße", "STRASSE", id="sharp s"),
        pytest.param("STRASSE", "STRASSE", id="sharp s, written out"),
        pytest.param("bal\u00adance\u200b", "BALANCE", id="invisible characters of a copied text"),
        pytest.param("balance ❤️", "BALANCE", id="an emoji with its variation selector"),
        pytest.param("👍🏽 yes 👨‍👩‍👧", "YES", id="emoji joined or toned"),
        pytest.param("1️⃣", "1", id="a keycap emoji is its digit"),
        pytest.param("½", "12", id="a fraction is its digits"),
        pytest.param("Café", "CAFÉ", id="accents stay"),
        pytest.param("Cafe\u0301", "CAFÉ", id="a combining accent is the same letter"),
        pytest.param("Cafe\u200d\u0301", "CAFÉ", id="even behind something invisible"),
        pytest.param("हिन्दी", "हिन्दी", id="vowel signs of Hindi stay"),
        pytest.param("ПРИВЕТ, мир", "ПРИВЕТМИР", id="Cyrillic"),
        pytest.param("你好！", "你好", id="Chinese"),
        pytest.param("ﾊﾟ", "パ", id="half-width Japanese"),
        pytest.param("?!", "", id="punctuation alone"),
        pytest.param("❤️", "", id="an emoji alone"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_what_does_not_count_in_a_keyword_falls_away(typed: str, counts: str) -> None:
    """Somebody types the keyword as people do, and gets the default's help text."""
    assert normalise(typed) == counts


@given(st.text())
def test_reducing_a_text_twice_changes_nothing_more(typed: str) -> None:
    """A keyword written as logs show it would not match itself."""
    once = normalise(typed)
    assert normalise(once) == once


@given(st.text(st.characters(categories=("L", "N", "P", "Z"))))
def test_case_never_counts(typed: str) -> None:
    """Phones capitalise the first letter of a text by themselves."""
    assert normalise(typed.lower()) == normalise(typed.lower().upper())


@given(st.text(), st.text(string.punctuation + string.whitespace + "¡¿…。️\u200b"))
def test_what_stands_around_a_text_never_counts(typed: str, around: str) -> None:
    """A full stop or a blank too many loses the route."""
    assert normalise(f"{around} {typed}{around}") == normalise(typed)


@given(st.text(st.characters(codec="ascii")))
def test_plain_ascii_takes_the_same_way_as_everything_else(typed: str) -> None:
    """One emoji in the text would change how its other characters count."""
    assert normalise(typed) == normalise(f"{typed}😊")


ROUTES: tuple[Matcher, ...] = (
    Keyword(("STOP",)),
    Keyword(("BALANCE", "CREDIT")),
    pattern(r"order\s+(?P<number>\d+)(?P<rest>!)?"),
    To("+15005550199"),
    Default(),
)


@pytest.mark.parametrize(
    ("message", "place", "arguments"),
    [
        pytest.param(text("credit"), 1, {}, id="any of a route's keywords"),
        pytest.param(text("my balance"), 4, {}, id="a keyword is the whole text or none"),
        pytest.param(
            text("My ORDER 7!"), 2, {"number": "7", "rest": "!"}, id="groups become arguments"
        ),
        pytest.param(
            text("order 7"), 2, {"number": "7", "rest": None}, id="a group that took no part"
        ),
        pytest.param(text("x", to="+15005550199"), 3, {}, id="our number"),
        pytest.param(
            text("x", to="whatsapp:+15005550199"), 4, {}, id="a channel is another number"
        ),
        pytest.param(text("balance", to="+15005550199"), 1, {}, id="the first in the order wins"),
        pytest.param(text(""), 4, {}, id="a picture alone takes the default"),
        pytest.param(text("stop"), 0, {}, id="STOP without advanced opt-out"),
        pytest.param(
            text("Stop.", OptOutType="STOP"), 0, {}, id="STOP by name, already answered by Twilio"
        ),
    ],
)
def test_the_first_route_that_matches_wins(
    message: Message, place: int, arguments: dict[str, str | None]
) -> None:
    """A text is answered by the wrong handler, or gets the wrong arguments."""
    assert find(ROUTES, message, answered="OptOutType" in message.raw) == (place, arguments)


def test_what_twilio_has_answered_gets_no_second_answer() -> None:
    """Somebody who opted out gets one text more from a default, which carriers forbid."""
    assert find(ROUTES, text("order 7", to="+15005550199"), answered=True) is None


def test_many_keywords_cost_little_more_than_one() -> None:
    """One long text with emoji holds up every conversation while each keyword is tried."""
    long = text("é" * 1_600)
    routes = tuple(Keyword((f"WORD{number}",)) for number in range(100))

    def best_s(some: tuple[Matcher, ...]) -> float:
        return min(timeit.repeat(lambda: find(some, long, answered=False), number=1, repeat=20))

    assert best_s(routes) < 10 * best_s(routes[:1])


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param((), id="no routes"),
        pytest.param(ROUTES[:4], id="none that matches"),
    ],
)
def test_no_match_is_a_result_and_no_error(routes: tuple[Matcher, ...]) -> None:
    """A text nobody has a route for would be retried and end as a dead letter."""
    assert find(routes, text("hm"), answered=False) is None


@pytest.mark.parametrize(
    ("new", "earlier", "reasons"),
    [
        pytest.param(Keyword(("A",)), [Keyword(("B",))], [], id="another keyword"),
        pytest.param(
            Keyword(("C", "A")),
            [Keyword(("B",)), Keyword(("A", "D"))],
            [(1, "keyword A is taken")],
            id="one keyword of several",
        ),
        pytest.param(pattern("a"), [pattern("b")], [], id="another pattern"),
        pytest.param(pattern("a"), [pattern("a")], [(0, "pattern a is taken")], id="a pattern"),
        pytest.param(
            Pattern(re.compile("a")), [pattern("a")], [], id="the same letters, other flags"
        ),
        pytest.param(To("+1"), [To("+1")], [(0, "to +1 is taken")], id="a number"),
        pytest.param(To("+1"), [To("+2")], [], id="another number"),
        pytest.param(
            To("+1"),
            [pattern("b"), pattern("(?P<text>.*)")],
            [(1, "it comes after a pattern that is found in every text")],
            id="anything after a pattern that takes everything",
        ),
        pytest.param(
            Default(),
            [pattern(".*")],
            [(0, "it comes after a pattern that is found in every text")],
            id="the default after such a pattern",
        ),
        pytest.param(
            Keyword(("STOP",)), [pattern(".*")], [], id="a word that Twilio may have answered"
        ),
        pytest.param(
            To("+1"),
            [Default()],
            [(0, "it comes after the default, which takes everything")],
            id="anything after the default",
        ),
        pytest.param(
            Default(),
            [Keyword(("A",)), Default()],
            [(1, "it comes after the default, which takes everything")],
            id="a second default",
        ),
    ],
)
def test_a_route_that_could_never_be_reached_is_told_why(
    new: Matcher, earlier: list[Matcher], reasons: list[tuple[int, str]]
) -> None:
    """The author writes a handler that never runs, and does not learn why."""
    assert list(conflicts(new, earlier)) == reasons


@pytest.mark.parametrize(
    ("words", "earlier", "places"),
    [
        (["Balance", "BAL"], [To("+1"), pattern("bal")], [1]),
        (["balance", "credit"], [pattern("credit"), Keyword(("X",)), pattern("balance")], [2, 0]),
        (["balance"], [pattern(".*")], [0]),
        (["balance", "credit"], [pattern("balance")], []),
        (["balance"], [Pattern(re.compile("balance"))], []),
        (["opt in"], [pattern("optin")], []),
        (["balance", "stop"], [pattern("balance|stop")], []),
        (["yes"], [pattern("yes")], []),
        (["balance"], [], []),
    ],
    ids=[
        "one pattern for all",
        "one pattern for each",
        "a pattern that takes everything",
        "one word is left",
        "one case is left",
        "as it is typed, and not as it counts",
        "STOP reaches keywords past a pattern",
        "so does YES from who is opted out",
        "nothing earlier",
    ],
)
def test_a_keyword_whose_words_patterns_take_before_it_is_known(
    words: list[str], earlier: list[Matcher], places: list[int]
) -> None:
    """Its handler never runs for what people type, and the author does not learn why."""
    assert shadows(words, earlier) == places


@pytest.mark.parametrize(
    ("matcher", "shown"),
    [
        (Keyword(("A", "B")), "keyword A B"),
        (pattern(r"a\d"), r"pattern a\d"),
        (To("+1"), "to +1"),
        (Default(), "default"),
    ],
    ids=["keyword", "pattern", "to", "default"],
)
def test_a_route_is_named_in_logs_as_its_author_wrote_it(matcher: Matcher, shown: str) -> None:
    """An operator can't tell from a dead letter which handler failed."""
    assert str(matcher) == shown
