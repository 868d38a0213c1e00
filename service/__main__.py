"""The `parley` command, and `python -m service`."""

from __future__ import annotations

import os
import sys

from service.cli.app import app
from service.cli.printing import say_error
from service.errors import (
    OPERATOR_MUST_MEND,
    ConnectorError,
    HandlersError,
    ParleyError,
    SettingsError,
    StoreMismatch,
    UsageError,
)


def main() -> None:
    """Run the command line; errors of ours are told in a line each, without a traceback."""
    # A pipe that is closed early (`| head`) ends a listing, it is no error.
    try:
        app(standalone_mode=True)
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
