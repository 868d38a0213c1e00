"""Every metric of /metrics: its name, what it means, and how processes' values come together.

Names and units follow Prometheus' conventions: base units, `_total` for what is counted. A label's
values are few and ours alone; a number, a text, a sid or a route (its name may hold a number) is
never one of them. `docs/metrics.md` is the same table for people, held together by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ACKNOWLEDGEMENT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds. A quiet door answers in one or two milliseconds; Twilio gives up after 15 s."""

ROUND_TRIP_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Seconds. Half a millisecond on one machine; after 5 s an answer is not waited for."""

HANDLER_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds. From an echo to a handler that is stopped at HANDLER_TIMEOUT_S, 30 s by default."""

SEND_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
"""Seconds. The connector takes tenths of a second; SEND_TIMEOUT_S is 15 s by default."""

REPLY_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
"""Seconds. From at once to the day that a reply may have waited for a connector that was away."""

TEXT_OUTCOMES = ("answered", "silent", "unrouted", "left_to_twilio", "dead_letter")
"""What becomes of a text; each text ends as exactly one of them."""

REPLY_OUTCOMES = ("sent", "found_sent", "dead_letter")
"""What becomes of a reply; found_sent is one in doubt that the connector's log has."""

BREAKER_STATES = ("closed", "paused", "open")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    help: a sentence or two. label: the name of its only label, "" without one.
    bounds: of a histogram's buckets. merged: how gauges of several processes become one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    label: str = ""
    bounds: tuple[float, ...] = ()
    merged: Literal["sum", "max", "min"] = "sum"


CALLBACKS = Metric(
    "parley_callbacks_total",
    "counter",
    "Callbacks that were answered, each with exactly one outcome.",
    label="outcome",
)
CONNECTIONS = Metric(
    "parley_connections_refused_total",
    "counter",
    "Connections of the public listener that were ended before a request was served, by reason.",
    label="reason",
)
IN_FLIGHT = Metric(
    "parley_callbacks_in_flight", "gauge", "Callbacks that have begun and have no answer yet."
)
ACKNOWLEDGEMENT = Metric(
    "parley_acknowledgement_seconds",
    "histogram",
    "Time from a callback's arrival at the door to its 200; what is refused is not in it.",
    bounds=ACKNOWLEDGEMENT_BOUNDS,
)
TEXTS = Metric(
    "parley_texts_total",
    "counter",
    "Texts that were settled, each with exactly one outcome.",
    label="outcome",
)
HANDLER_FAILURES = Metric(
    "parley_handler_failures_total",
    "counter",
    "Attempts of handlers that raised, took too long or returned what is no reply.",
)
HANDLER = Metric(
    "parley_handler_seconds",
    "histogram",
    "Time that handlers took, attempts that failed included.",
    bounds=HANDLER_BOUNDS,
)
REPLIES = Metric(
    "parley_replies_total",
    "counter",
    "Replies that are done with, each with exactly one outcome.",
    label="outcome",
)
POSTPONED = Metric(
    "parley_replies_postponed_total",
    "counter",
    "Times that a reply was put off, as the connector failed, throttled or refused us.",
)
SEND = Metric(
    "parley_send_seconds",
    "histogram",
    "Time that the connector took to answer the POST of a reply, failures included.",
    bounds=SEND_BOUNDS,
)
CALLBACK_TO_REPLY = Metric(
    "parley_callback_to_reply_seconds",
    "histogram",
    "Time from the acceptance of a text to the sending of each of its replies.",
    bounds=REPLY_BOUNDS,
)
LEASES_TAKEN = Metric(
    "parley_leases_taken_total", "counter", "Leases on partitions that were taken."
)
LEASES_LOST = Metric(
    "parley_leases_lost_total",
    "counter",
    "Leases that ran out or passed to another worker before they were given up.",
)
PARTITION_RESTARTS = Metric(
    "parley_partition_restarts_total",
    "counter",
    "Times that a partition was read again from its start after a failure of Redis.",
)
PARTITIONS_OWNED = Metric(
    "parley_partitions_owned", "gauge", "Partitions that this service holds the lease of."
)
BREAKER = Metric(
    "parley_breaker_processes",
    "gauge",
    "Working processes by the state of their circuit breaker before the connector: closed lets "
    "everything pass, paused waits as long as the connector asked, open tries one reply at a time.",
    label="state",
)
INSTANCE_READY = Metric(
    "parley_instance_ready",
    "gauge",
    "Whether every process has a connector instance to send through; 1 means yes.",
    merged="min",
)
BACKFILL_FAILING = Metric(
    "parley_backfill_failing",
    "gauge",
    "Whether a process can't read missed texts back from the connector's log; 1 means yes.",
    merged="max",
)
RECOVERED = Metric(
    "parley_texts_recovered_total",
    "counter",
    "Texts that no callback brought and that were read back from the connector's log.",
)
SCRIPT_CALLS = Metric(
    "parley_redis_script_calls_total",
    "counter",
    "Script calls made of Redis; many share one round trip.",
)
ROUND_TRIP = Metric(
    "parley_redis_round_trip_seconds",
    "histogram",
    "Time that Redis took to answer a group of script calls; its count is that of round trips.",
    bounds=ROUND_TRIP_BOUNDS,
)
PROCESSES = Metric(
    "parley_processes", "gauge", "Processes of this service that have been heard of lately."
)
PROCESSES_WANTED = Metric(
    "parley_processes_wanted",
    "gauge",
    "Processes that this service should have (PROCESSES).",
    merged="max",
)
CPU = Metric(
    "parley_cpu_seconds_total", "counter", "Processor time that this service's processes used."
)
REDIS_UP = Metric(
    "parley_redis_up",
    "gauge",
    "Whether Redis told the figures of the whole deployment just now; 1 means yes. The metrics "
    "of inboxes, outboxes and dead letters are missing otherwise.",
)
INBOX = Metric(
    "parley_inbox_messages",
    "gauge",
    "Accepted texts of the whole deployment that are not settled yet, by partition.",
    label="partition",
)
OUTBOX = Metric(
    "parley_outbox_replies",
    "gauge",
    "Replies of the whole deployment that are not sent yet, by partition.",
    label="partition",
)
INBOX_OLDEST = Metric(
    "parley_inbox_oldest_seconds",
    "gauge",
    "Age of the text that has waited longest in a partition's inbox; 0 if none waits.",
    label="partition",
)
OUTBOX_OLDEST = Metric(
    "parley_outbox_oldest_seconds",
    "gauge",
    "Age of the reply that has waited longest in a partition's outbox; 0 if none waits.",
    label="partition",
)
DEAD_LETTERS = Metric(
    "parley_dead_letters",
    "gauge",
    "Dead letters of the whole deployment that are kept until somebody replays or drops them.",
)

METRICS: Mapping[str, Metric] = {
    each.name: each
    for each in (
        CALLBACKS,
        CONNECTIONS,
        IN_FLIGHT,
        ACKNOWLEDGEMENT,
        TEXTS,
        HANDLER_FAILURES,
        HANDLER,
        REPLIES,
        POSTPONED,
        SEND,
        CALLBACK_TO_REPLY,
        INBOX,
        INBOX_OLDEST,
        OUTBOX,
        OUTBOX_OLDEST,
        DEAD_LETTERS,
        LEASES_TAKEN,
        LEASES_LOST,
        PARTITIONS_OWNED,
        PARTITION_RESTARTS,
        BREAKER,
        INSTANCE_READY,
        BACKFILL_FAILING,
        RECOVERED,
        REDIS_UP,
        SCRIPT_CALLS,
        ROUND_TRIP,
        PROCESSES,
        PROCESSES_WANTED,
        CPU,
    )
}
"""All of them by name, in the order they are shown."""
