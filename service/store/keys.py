"""Every Redis key Parley uses, made here and nowhere else, with its Cluster hash tag.

`WRITTEN_DOWN` says of each what it holds, who writes it and how long it lives. Everything of one
partition carries one tag, so that a script's keys always share a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from service.model import MessageSid, Partition

WORKERS = "parley:{workers}:alive"
INSTANCE = "parley:{instance}:record"
INSTANCE_LOCK = "parley:{instance}:lock"
INSTANCE_LOOK = "parley:{instance}:look"
SETUP = "parley:{setup}:current"
SETUP_DRAFT = "parley:{setup}:draft"
COVERED = "parley:{backfill}:covered"
FIRST_START = "parley:{backfill}:first"
OUR_NUMBERS = "parley:{backfill}:numbers"
BACKFILL_LOCK = "parley:{backfill}:lock"
PARTITION_COUNT = "parley:{layout}:partitions"
PASSWORDS = "parley:{console}:passwords"
SESSIONS = "parley:{console}:sessions"
TRIES = "parley:{console}:tries"
TRAIL = "parley:{audit}:trail"
REFUSALS = "parley:{audit}:refusals"


def pace(number: str) -> str:
    """Key of the pace one of our numbers sends at."""
    return f"parley:{{{number}}}:pace"


def session(cookie: str) -> str:
    """Key of one session of the console. cookie: the digest of its cookie."""
    return f"parley:{{console}}:session:{cookie}"


def sign_in_token(token: str) -> str:
    """Key of a one-time token that signs in at the console. token: its digest."""
    return f"parley:{{console}}:token:{token}"


def tries_of(network: str) -> str:
    """Key of the failed sign-ins from one network. network: its digest."""
    return f"{TRIES}:{network}"


def refusal_of(network: str) -> str:
    """Key that says a refused sign-in from this network is in the trail. network: its digest."""
    return f"{REFUSALS}:{network}"


@dataclass(frozen=True, slots=True, init=False)
class PartitionKeys:
    """The keys of one partition."""

    prefix: str
    inbox: str
    inbox_tries: str
    inbox_later: str
    outbox: str
    outbox_tries: str
    outbox_later: str
    outbox_marked: str
    dead: str
    optouts: str
    lease: str
    epoch: str

    def __init__(self, partition: Partition) -> None:
        prefix = f"parley:{{p{partition:02d}}}:"
        put = object.__setattr__
        put(self, "prefix", prefix)
        for name in self.__slots__[1:]:
            put(self, name, prefix + name.replace("_", ":"))

    def seen(self, sid: MessageSid) -> str:
        """Key that says this MessageSid was accepted."""
        return f"{self.prefix}seen:{sid}"

    def status(self, sid: MessageSid, status: str) -> str:
        """Key that says this report on one of our replies was taken."""
        return f"{self.prefix}status:{sid}:{status}"

    def optout(self, sid: MessageSid) -> str:
        """Key that says a report on this reply of ours was taken for an opt-out."""
        return f"{self.prefix}optout:{sid}"

    def sent(self, connector_sid: str) -> str:
        """Key that says which of our replies the connector knows by this sid."""
        return f"{self.prefix}sent:{connector_sid}"

    def unlisted(self, words: str) -> str:
        """Key of the POSTs of the same words that no sid names. words: their fingerprint."""
        return f"{self.prefix}unlisted:{words}"


class KeyForm(NamedTuple):
    """What is written down of a key.

    name: with {p07} for any partition, and <...> for what differs from key to key.
    writer: the scripts (`store/lua/`) or modules that write it. lives: "" for as long as the data.
    """

    name: str
    type: Literal["stream", "hash", "string", "set", "zset"]
    holds: str
    writer: str
    lives: str = ""


WRITTEN_DOWN = (
    KeyForm(
        "parley:{p07}:inbox",
        "stream",
        "messages accepted, not settled",
        "accept, replay; settle and bury take out",
    ),
    KeyForm(
        "parley:{p07}:inbox:tries",
        "hash",
        "entry id -> attempts begun",
        "begin, abandon; settle and bury take out",
    ),
    KeyForm(
        "parley:{p07}:inbox:later",
        "hash",
        'entry id -> "next_ms error" of a failed attempt',
        "reschedule; settle and bury take out",
    ),
    KeyForm(
        "parley:{p07}:outbox",
        "stream",
        "replies, not sent",
        "settle; sent and bury take out",
    ),
    KeyForm(
        "parley:{p07}:outbox:tries",
        "hash",
        "entry id -> POSTs begun",
        "settle, mark; sent and bury take out",
    ),
    KeyForm(
        "parley:{p07}:outbox:later",
        "hash",
        'entry id -> "next_ms error"',
        "reschedule; sent and bury take out",
    ),
    KeyForm(
        "parley:{p07}:outbox:marked",
        "hash",
        "entry id -> ms of the POST whose outcome is not recorded",
        "settle, mark; sent, reschedule and bury take out",
    ),
    KeyForm(
        "parley:{p07}:dead",
        "stream",
        "dead letters of both kinds",
        "bury; replay and dead_letters take out",
    ),
    KeyForm(
        "parley:{p07}:optouts",
        "hash",
        '"ours theirs" -> ms of the opt-out',
        "opt_out, status; settle takes out",
    ),
    KeyForm(
        "parley:{p07}:optout:<sid>",
        "string",
        "a report on this reply was taken for an opt-out",
        "status",
        "DEDUPE_WINDOW_S",
    ),
    KeyForm(
        "parley:{p07}:lease",
        "string",
        '"owner:epoch"',
        "acquire, renew, restart; renew and disown take out",
        "LEASE_TTL_S",
    ),
    KeyForm("parley:{p07}:epoch", "string", "last epoch given out", "acquire"),
    KeyForm(
        "parley:{p07}:seen:<sid>",
        "string",
        "this MessageSid was accepted",
        "accept",
        "DEDUPE_WINDOW_S",
    ),
    KeyForm(
        "parley:{p07}:sent:<sid>",
        "string",
        "the reply with this sid of the connector",
        "sent",
        "DEDUPE_WINDOW_S",
    ),
    KeyForm(
        "parley:{p07}:unlisted:<words>",
        "zset",
        '"entry ms connector-id" -> ms of the mark: POSTs of these words that may be in the '
        "message log and are not known by a sid of Twilio's; no id where in doubt",
        "mark, sent, bury",
        "DEDUPE_WINDOW_S",
    ),
    KeyForm(
        "parley:{p07}:status:<sid>:<status>",
        "string",
        "this delivery report was taken",
        "status",
        "DEDUPE_WINDOW_S",
    ),
    KeyForm(WORKERS, "zset", "worker id -> ms until which it counts as alive", "announce"),
    KeyForm(
        pace("<our number>"),
        "string",
        "end of the last turn to send given out, us since the epoch",
        "pace",
        "a second behind that turn",
    ),
    KeyForm(INSTANCE, "hash", "our connector instance, its token sealed", "instances"),
    KeyForm(INSTANCE_LOCK, "string", "one provisioner at a time", "locks", "30 s, renewed"),
    KeyForm(
        INSTANCE_LOOK,
        "hash",
        "when the service last looked at our instance, and what it last did to it",
        "note_look",
    ),
    KeyForm(
        SETUP, "hash", "credentials typed in the console, sealed, and their version", "keep_setup"
    ),
    KeyForm(
        SETUP_DRAFT,
        "hash",
        "what was typed of the next ones, sealed",
        "keep_setup; drop_draft takes out",
        "7 days",
    ),
    KeyForm(COVERED, "string", "ms up to which nothing is missing from the inboxes", "watermark"),
    KeyForm(
        FIRST_START,
        "string",
        "ms of the first start; nothing older is read unasked",
        "watermark",
    ),
    KeyForm(OUR_NUMBERS, "set", "our numbers, as far as texts to them were accepted", "watermark"),
    KeyForm(BACKFILL_LOCK, "string", "one backfill at a time", "locks", "30 s, renewed"),
    KeyForm(PARTITION_COUNT, "string", "partition count this Redis was laid out with", "layout"),
    KeyForm(PASSWORDS, "hash", "role -> argon2id hash of its password", "set_password"),
    KeyForm(
        SESSIONS,
        "zset",
        "digest of the cookie -> ms at which the session ends at the latest; all there are",
        "begin_session; see_session and end_session take out",
        "12 h from the last sign-in",
    ),
    KeyForm(
        session("<cookie>"),
        "hash",
        "one session: its public id, who, from where, when; under the digest of its cookie",
        "begin_session, see_session; end_session takes out",
        "12 h, 1 h after it was last seen",
    ),
    KeyForm(
        sign_in_token("<token>"),
        "hash",
        "the role that a one-time token signs in with; under the token's digest",
        "make_token; begin_session takes out",
        "10 minutes",
    ),
    KeyForm(
        TRIES,
        "string",
        '"until next": ms at which every failed sign-in is forgotten, ms before which none is '
        "looked at",
        "try_sign_in, begin_session",
        "until all are forgotten",
    ),
    KeyForm(
        tries_of("<network>"),
        "string",
        "the same of one network, under its digest",
        "try_sign_in, begin_session",
        "until all are forgotten",
    ),
    KeyForm(TRAIL, "stream", "who did what, the newest 100,000 acts", "note, note_refusal"),
    KeyForm(
        REFUSALS, "string", "refused sign-ins noted in this minute", "note_refusal", "a minute"
    ),
    KeyForm(
        refusal_of("<network>"),
        "string",
        "a refused sign-in from this network was noted in this minute",
        "note_refusal",
        "a minute",
    ),
)
"""Every key there is. A test holds it against what a run leaves in Redis."""
