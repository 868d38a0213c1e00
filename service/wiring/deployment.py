"""The deployment that a single command works on, and its Redis for as long as the command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.host.embedded import EmbeddedRedis
from service.host.logs import set_up_logs
from service.operate.deployment import Deployment
from service.settings.setup import Given


@contextmanager
def deployment_of(given: Given) -> Iterator[Deployment]:
    """Find the deployment's Redis, and let the log show warnings.

    Without REDIS_URL that is the embedded one: the running service's, or, if none runs, one
    started for the time being. Raises SettingsError, StoreUnavailable.
    """
    set_up_logs("auto", "warning")
    settings = given.partial()
    if settings.redis_url:
        yield Deployment(settings, settings.redis_url.get_secret_value(), given)
        return
    embedded = EmbeddedRedis(settings.data_dir, settings.config_dir / "redis.conf")
    started = not embedded.answers()
    if started:
        embedded.start()
    try:
        yield Deployment(settings, embedded.url, given)
    finally:
        if started:
            embedded.stop()
