from __future__ import annotations

from service.core.breaker import FAILURES, Breaker

NOW = 1_000_000


def opened() -> Breaker:
    """A breaker that has just opened, for 0.1 to 1 s: here 0.55 s."""
    breaker = Breaker()
    told = [breaker.failed(NOW, 0.5) for _ in range(FAILURES)]
    assert told == [False] * (FAILURES - 1) + [True]
    return breaker


def test_a_few_failures_change_nothing() -> None:
    """One reset connection would hold up everybody's replies."""
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(NOW, 0.5)
    assert breaker.closed
    assert breaker.wait_ms(NOW) == 0
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed(NOW, 0.5)
    assert breaker.closed, "failures count in a row only"


def test_after_failures_in_a_row_everybody_waits() -> None:
    """An ailing connector would be hammered, and every reply would use its attempts up."""
    breaker = opened()
    assert not breaker.closed
    assert breaker.wait_ms(NOW) == 550
    assert breaker.wait_ms(NOW + 500) == 50


def test_after_the_pause_one_reply_tries_alone() -> None:
    """A crowd let through at once would bring a recovering connector down again."""
    breaker = opened()
    later = NOW + 550
    assert breaker.wait_ms(later) == 0
    assert breaker.wait_ms(later) > 0
    assert breaker.wait_ms(later + 60_000) > 0, "it has not reported yet"
    breaker.succeeded()
    assert breaker.closed
    assert [breaker.wait_ms(later) for _ in range(3)] == [0, 0, 0]


def test_a_failed_try_doubles_the_pause() -> None:
    """An outage of an hour would be asked about every second by every process."""
    breaker = opened()
    later = NOW + 550
    assert breaker.wait_ms(later) == 0
    assert breaker.failed(later, 0.5)
    assert breaker.wait_ms(later) == 1_100


def test_a_try_that_was_never_made_is_given_to_the_next() -> None:
    """A hand-over at the wrong moment would leave the breaker open for ever."""
    breaker = opened()
    later = NOW + 550
    assert breaker.wait_ms(later) == 0
    breaker.gave_up()
    assert breaker.wait_ms(later) == 0


def test_a_connector_that_asks_for_a_pause_gets_it_and_then_everybody_goes_on() -> None:
    """Retry-After ignored turns a throttled account into a blocked one."""
    breaker = Breaker()
    breaker.paused(NOW, 2)
    assert breaker.wait_ms(NOW) == 2_000
    assert [breaker.wait_ms(NOW + 2_000) for _ in range(3)] == [0, 0, 0]
    assert breaker.closed


def test_failures_of_replies_already_under_way_do_not_lengthen_the_pause() -> None:
    """64 POSTs that fail together would count as 64 openings."""
    breaker = opened()
    for _ in range(60):
        assert not breaker.failed(NOW + 1, 0.5)
    assert breaker.wait_ms(NOW) == 550
