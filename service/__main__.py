"""The `parley` command, and `python -m service`.

`parley serve` written plainly starts without the library of the command line, which would stay in
every process, 2 MB of it. What is not plain (`--help`, `--port=80`, a mistake) goes to `cli`, as
every other command does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from service.errors import (
    OPERATOR_MUST_MEND,
    ConnectorError,
    HandlersError,
    ParleyError,
    SettingsError,
    StoreMismatch,
    UsageError,
)
from service.printing import say_error


def _role(text: str) -> str:
    if text not in {"web", "worker", "all"}:
        raise ValueError(text)
    return text


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


SERVE: dict[str, Callable[[str], Any]] = {
    "host": str,
    "port": int,
    "processes": _count,
    "role": _role,
    "fd": int,
    "internal_fd": int,
    "slot": str,
    "worker": str,
}
"""Options of `parley serve` as `cli` names them, and how their values are read."""

SWITCHES = frozenset({"stop_with_stdin"})


def plainly(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Read `serve --option value ...`; None for whatever else it is, which `cli` knows better."""
    if not arguments or arguments[0] != "serve":
        return None
    given: dict[str, Any] = dict.fromkeys(SERVE) | dict.fromkeys(SWITCHES, False)
    given["role"] = "all"
    rest = iter(arguments[1:])
    for argument in rest:
        name = argument.removeprefix("--").replace("-", "_")
        if not argument.startswith("--") or "_" in argument or name not in given:
            return None
        if name in SWITCHES:
            given[name] = True
            continue
        try:
            given[name] = SERVE[name](next(rest, ""))
        except ValueError:
            return None
        if str(given[name]).startswith("-"):
            return None
    return given


def main() -> None:
    """Run the command line; errors of ours are told in a line each, without a traceback."""
    # A pipe that is closed early (`| head`) ends a listing, it is no error.
    try:
        options = plainly(sys.argv[1:])
        if options is None:
            from service.cli import app

            app(standalone_mode=True)
        else:
            # The log first: it sees to it that structlog comes without rich.
            from service import logs  # noqa: F401
            from service.wiring.serve import serve_with

            sys.exit(serve_with(**options))
    except SettingsError as error:
        say_error(*error.problems)
        sys.exit(OPERATOR_MUST_MEND)
    except HandlersError as error:
        # With the line of the file below it.
        say_error(*str(error).split("\n"))
        sys.exit(OPERATOR_MUST_MEND)
    except (StoreMismatch, UsageError) as error:
        say_error(error)
        sys.exit(OPERATOR_MUST_MEND)
    except ConnectorError as error:
        say_error(f"{error} ({error.advice})")
        sys.exit(1)
    except ParleyError as error:
        say_error(error)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
