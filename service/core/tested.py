"""Versions of libraries that the short cuts were tested with; outside them none is taken.

A short cut leans on what a library does not promise to keep; `tests/test_contracts.py` names it.
The bounds are those of pyproject.toml, which somebody may have set aside when they installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class Library:
    """A library by the name of its distribution. least, below: major and minor version."""

    name: str
    least: tuple[int, int]
    below: tuple[int, int]

    def covers(self, version: str | None = None) -> bool:
        """Tell whether a version was tested; None for the one that is installed."""
        found = re.match(r"(\d+)\.(\d+)", version or self.installed())
        return found is not None and self.least <= (int(found[1]), int(found[2])) < self.below

    def installed(self) -> str:
        """Return the version that is installed."""
        return metadata.version(self.name)

    @property
    def span(self) -> str:
        """The versions in words."""
        return f">={self.least[0]}.{self.least[1]},<{self.below[0]}.{self.below[1]}"


REDIS = Library("redis", (8, 1), (8, 2))
"""Kept connections, see `service.store.link`; a Cluster's nodes, see `service.store.cluster`."""

UVICORN = Library("uvicorn", (0, 40), (0, 55))
"""The short way in, see `service.web.door.connections`. The bounds, see `service.host.bounds`, are
put to what was not tested as well, if it is still there: without them callers may be slow."""
