"""Every Redis key Parley uses, made here and nowhere else, with its Cluster hash tag.

    parley:{p07}:inbox           stream   accepted, not settled
    parley:{p07}:outbox          stream   replies, not sent
    parley:{p07}:dead            stream   dead letters of both kinds
    parley:{p07}:inbox:tries     hash     entry id -> attempts begun
    parley:{p07}:inbox:later     hash     entry id -> "next_ms error" of a failed attempt
    parley:{p07}:outbox:tries    hash     entry id -> POSTs begun
    parley:{p07}:outbox:later    hash     entry id -> "next_ms error"
    parley:{p07}:outbox:marked   hash     entry id -> ms of the POST whose outcome is not recorded
    parley:{p07}:optouts         hash     "ours theirs" -> ms of the opt-out
    parley:{p07}:optout:<sid>    string   a report on this reply was taken for an opt-out, expires
    parley:{p07}:lease           string   "owner:epoch", expires
    parley:{p07}:epoch           string   last epoch given out
    parley:{p07}:seen:<sid>      string   this MessageSid was accepted, expires with the window
    parley:{p07}:sent:<sid>      string   the reply with this connector sid, expires
    parley:{p07}:unlisted:<words>  zset   "entry ms connector-id" -> ms of the mark: POSTs of these
                                          words that may be in the message log and are not known
                                          by a sid of Twilio's; no id where in doubt; expires
    parley:{p07}:status:<sid>:<status>   string   this delivery report was taken, expires

    parley:{workers}:alive       zset     worker id -> ms until which it counts as alive
    parley:{<our number>}:pace   string   end of the last turn to send given out, us since the epoch
    parley:{instance}:record     hash     our connector instance, token sealed
    parley:{instance}:lock       string   one provisioner at a time, expires
    parley:{backfill}:covered    string   ms up to which nothing is missing from the inboxes
    parley:{backfill}:first      string   ms of the first start; nothing older is read unasked
    parley:{backfill}:numbers    set      our numbers, as far as texts to them were accepted
    parley:{backfill}:lock       string   one backfill at a time, expires
    parley:{layout}:partitions   string   partition count this Redis was laid out with

Everything of one partition carries one tag, so that a script's keys always share a slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.model import MessageSid, Partition

WORKERS = "parley:{workers}:alive"
INSTANCE = "parley:{instance}:record"
INSTANCE_LOCK = "parley:{instance}:lock"
COVERED = "parley:{backfill}:covered"
FIRST_START = "parley:{backfill}:first"
OUR_NUMBERS = "parley:{backfill}:numbers"
BACKFILL_LOCK = "parley:{backfill}:lock"
PARTITION_COUNT = "parley:{layout}:partitions"


def pace(number: str) -> str:
    """Key of the pace one of our numbers sends at."""
    return f"parley:{{{number}}}:pace"


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
