"""The body of `parley bench`: a deployment of its own or somebody's, progress, the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from service.bench.figures import Run, Sent
from service.bench.plan import Target
from service.bench.report import as_json, as_table, summarize
from service.bench.run import Place, Wanted, measure
from service.demo import OUR_NUMBER, Demo

CALLBACK_PATH = "/callbacks/twilio"

HANDLERS = '''"""What `parley bench` measures with: every text is answered with itself."""

from service import Message, Router

router = Router()


@router.default
async def echo(message: Message) -> str:
    """Answer with the text."""
    return message.body
'''

REDRAW_S = 1.0
"""Seldom: drawing takes milliseconds from the process that measures milliseconds."""


def bench_deployment(place: Place, wanted: Wanted, *, json_wanted: bool) -> int:
    """Measure a running deployment and print the result; returns the exit status.

    Raises BenchFailed.
    """
    return _show(_run(place, wanted), json_wanted=json_wanted)


def bench_own(wanted: Wanted, *, processes: int, delay_ms: float, json_wanted: bool) -> int:
    """Start a deployment, measure it, stop it, print the result; returns the exit status.

    delay_ms: what its connector waits before it answers. Raises BenchFailed, DemoFailed.
    """
    # Ends like Ctrl+C does: with the processes stopped and the folders gone.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    errors = Console(stderr=True, highlight=False)
    if errors.is_terminal:
        errors.print("Starting a sandbox, a Redis and Parley itself ...", style="dim")
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        handlers = Path(folder) / "handlers.py"
        handlers.write_text(HANDLERS, encoding="utf-8")
        # The signatures it is sent to refuse would be warnings.
        settings = {"PROCESSES": str(processes), "LOG_LEVEL": "error"}
        with Demo(handlers, errors, settings) as demo:
            url = demo.addresses.public + CALLBACK_PATH
            place = Place(
                target=Target(url, demo.auth_token, demo.account_sid, OUR_NUMBER),
                address=url,
                connector_log=demo.addresses.sandbox,
                internal=demo.addresses.internal,
                service=demo.pids["service"],
                sandbox=demo.pids["sandbox"],
                redis_socket=demo.redis_socket,
                processes=processes,
                delay_ms=delay_ms,
            )
            run = _run(place, wanted)
    return _show(run, json_wanted=json_wanted)


def callback_url(url: str) -> str:
    """Complete a public address to the callback URL; one that is complete stays as it is."""
    bare = url.rstrip("/")
    return bare if bare.endswith(CALLBACK_PATH) else bare + CALLBACK_PATH


def _run(place: Place, wanted: Wanted) -> Run:
    async def run() -> Run:
        with _progress(wanted) as (sent, redraw):
            drawing = asyncio.create_task(_draw(redraw))
            try:
                return await measure(place, wanted, sent)
            finally:
                drawing.cancel()

    return uvloop.run(run())


@contextlib.contextmanager
def _progress(wanted: Wanted) -> Iterator[tuple[Callable[[Sent], None], Callable[[], None]]]:
    """Show a bar on a terminal; yields what to call for each callback, and to draw."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        # Its thread would take the interpreter from the load generator at any moment.
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    )
    count = 0

    def sent(callback: Sent) -> None:
        nonlocal count
        count += callback.kind == "new"

    with bar:
        task = bar.add_task("messages", total=wanted.planned)

        def redraw() -> None:
            bar.update(task, completed=count, refresh=True)

        yield sent, redraw


async def _draw(redraw: Callable[[], None]) -> None:
    while True:
        redraw()
        await asyncio.sleep(REDRAW_S)


def _show(run: Run, *, json_wanted: bool) -> int:
    summary = summarize(run)
    if json_wanted:
        print(json.dumps(as_json(summary), indent=2))  # noqa: T201  (the command's output)
    else:
        Console(highlight=False).print(as_table(summary))
    for note in summary.notes:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201
    return 0 if summary.promises.kept else 1
