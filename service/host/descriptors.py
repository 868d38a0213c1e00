"""How many files and connections this process may have open. Asked by whoever bounds connections.

The usual limit of 1,024 is a soft one, kept low for programs that call `select`; nothing here does.
At the limit every new connection is reset, readiness included, so it is raised at the start.
"""

from __future__ import annotations

import contextlib
import resource
import sys

import structlog

log = structlog.get_logger()

CALLERS = 1_000
"""Connections of callers that are counted with: Twilio's, a proxy's idle ones, probes."""

OWN = 64
"""Descriptors beside connections: listeners, the loop, logs, Redis, files that handlers read."""


def raise_limit(*, needed: int) -> int:
    """Raise the soft limit to the hard one, which children inherit; returns `usable` afterwards.

    needed: what the settings may take; a limit below it is said in the log.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls its hard limit infinite and refuses it.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = usable()
    if found < needed:
        log.warning(
            "few open files are allowed; when they run out, callers are turned away",
            limit=found,
            needed=needed,
            advice=f"raise the hard limit of the process: ulimit -Hn {needed}, LimitNOFILE=, "
            "--ulimit nofile=",
        )
    return found


def usable() -> int:
    """Tell how many descriptors this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def needed_for(*connections: int, callers: int = CALLERS) -> int:
    """Add up what may be open: `connections` of the settings, of callers, and the rest."""
    return sum(connections) + callers + OWN
