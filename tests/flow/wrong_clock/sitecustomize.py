"""Python runs this at its start where its folder is on PYTHONPATH: the wall clock is set wrong.

`CLOCK_AHEAD_S` says by how many seconds. What nobody can set, `time.monotonic`, is left alone.
"""

import datetime as dt
import os
import time
from typing import Any

AHEAD_S = float(os.environ["CLOCK_AHEAD_S"])

true_s, true_ns, true_datetime = time.time, time.time_ns, dt.datetime
time.time = lambda: true_s() + AHEAD_S
time.time_ns = lambda: true_ns() + int(AHEAD_S * 1e9)


class _Datetimes(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, true_datetime)


class _Wrong(true_datetime, metaclass=_Datetimes):  # type: ignore[valid-type, misc]  # a variable  # type: ignore[valid-type, misc]  # a variable
    """Tells the wrong time, in datetimes like any other."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        return true_datetime(*args, **named)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return true_datetime.now(tz) + dt.timedelta(seconds=AHEAD_S)


if os.environ.get("CLOCK_OF_DATETIME"):
    dt.datetime = _Wrong  # type: ignore[misc]
