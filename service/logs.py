"""Sets the log up: one line an event, for eyes on a terminal, as JSON elsewhere. Called once.

What libraries log comes in the same form, and is bounded: a stranger decides how often uvicorn
complains of malformed requests.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Literal

# What structlog imports where it is installed and is never used here: rich for tracebacks, 5 MB in
# every process, and greenlet, 1 MB.
_hidden = {"rich", "greenlet"} - sys.modules.keys()
sys.modules |= dict.fromkeys(_hidden)  # type: ignore[arg-type]
import structlog  # noqa: E402

from service.core.plain_text import escape_in_json  # noqa: E402
from service.log_lines import LibraryLimit, indented_traceback, only_read  # noqa: E402

for _name in _hidden:
    del sys.modules[_name]

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor


def set_up_logs(form: Literal["auto", "console", "json"], level: str) -> None:
    """Send structlog's and the libraries' events to standard error.

    Tracebacks come without the values of variables, which may be secrets or people's texts.

    form: "auto" is "console" on a terminal and "json" elsewhere. level: the least one shown;
        of libraries never less than a warning.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    last: list[Processor] = (
        [
            only_read,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=indented_traceback
            ),
        ]
        if console
        else [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(
                lambda event, **given: escape_in_json(json.dumps(event, **given))
            ),
        ]
    )
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[_drop_record, *last], foreign_pre_chain=shared
        )
    )
    handler.addFilter(LibraryLimit())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))


def _drop_record(logger: object, name: str, event: EventDict) -> EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(
        logging.getLogger(), name, event
    )
