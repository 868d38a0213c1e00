"""The log: events in a line each, and nothing secret in them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import logging, sys, structlog
from service.logs import set_up_logs
set_up_logs(sys.argv[1], "info")
log = structlog.get_logger()

def fail():
    secret = "a-secret-in-a-variable"
    raise ValueError("what went wrong")

try:
    fail()
except ValueError:
    log.exception("ours")
    logging.getLogger("library").exception("theirs")
log.debug("too quiet")
logging.getLogger("library").info("also too quiet")
"""


@pytest.mark.parametrize("form", ["console", "json", "auto"])
def test_a_traceback_shows_no_values(form):
    """A token in a local variable would be in every log collector."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, form], capture_output=True, text=True, check=True
    )
    assert "what went wrong" in ran.stderr
    assert ran.stderr.count("ours") >= 1
    assert ran.stderr.count("theirs") >= 1
    assert "a-secret-in-a-variable" not in ran.stderr.replace('secret = "a-secret', "")
    assert "too quiet" not in ran.stderr


def test_elsewhere_than_on_a_terminal_each_event_is_a_line_of_json():
    """Log collectors would split an event into many."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, "auto"], capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event["event"] for event in events] == ["ours", "theirs"]
    assert all(event["level"] == "error" for event in events)
