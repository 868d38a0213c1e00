"""What one process is made of. `wiring.process` builds these parts, starts and stops them.

    base          what every process has: Redis, the connector, clocks, the supervised tasks
    redis_watch   the first look at Redis, which lets callbacks in, and those that follow
    setup         what the process is set up with, and all that turns when that changes
    terminal      what is shown there of a service that is not set up
    public        the door: callbacks come in
    work          inboxes -> handlers -> replies, for a share of the partitions
    gaps          texts that no callback brought are read back
    internal      the internal listener: /readyz, /counters, /metrics
    readiness     what /readyz says of them
    reporting     the figures of /metrics, this process's and the others'

Each is whole once it is built. A process that is no worker, or has no door, is built without that
part: nobody asks a part whether it is there.
"""
