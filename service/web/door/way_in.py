"""Chooses what the public listener makes connections of: with the short way in, or without."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from service.core.tested import UVICORN
from service.host.bounded import Connections, bounded
from service.host.crowd import Crowd

if TYPE_CHECKING:
    from service.web.door.callbacks import Door


def connections(
    door: Door,
    paths: frozenset[bytes],
    crowd: Crowd | None = None,
    *,
    version: str | None = None,
) -> Connections:
    """Make what `uvicorn.Config` takes as `http`.

    crowd: what the connections share; a new one with the usual bounds if there is none.
    version: uvicorn's, None for the one that is installed. Of one that was not tested every
        callback takes uvicorn's usual way, within the same bounds if it lets them be put to it.
    """
    if not UVICORN.covers(version):
        return bounded(crowd or Crowd(), version=version)
    short_way = import_module("service.web.door.connections").Connection
    return partial(short_way, door=door, paths=paths, crowd=crowd or Crowd())
