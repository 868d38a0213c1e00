"""The body of `parley bench`: a deployment of its own or somebody's, progress, the result."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from service.cli.printing import say_error, say_json
from service.lab.bench.figures import Run, Sent
from service.lab.bench.plan import Place, Target
from service.lab.bench.report import Summary, as_json, as_table, summarize
from service.lab.bench.run import Wanted, measure
from service.lab.bench.targets import (
    STEADY_DELAY_MS,
    STEADY_RATE,
    targets_as_json,
    targets_as_table,
    targets_of,
)
from service.lab.demo import OUR_NUMBER, Demo

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


TARGET_RUNS = (
    ("steady", STEADY_RATE, None, 10.0),
    ("flat out", 0.0, 5_000, 0.0),
)
"""What `--targets` runs: name, callbacks a second, messages, seconds."""


def bench_deployment(place: Place, wanted: Wanted, *, json_wanted: bool) -> int:
    """Measure a running deployment and print the result; returns the exit status.

    Raises BenchFailed.
    """
    return _show([_Measured("", _run(place, wanted), None)], json_wanted=json_wanted)


def bench_own(
    wanted: Wanted, *, processes: int, delay_ms: float, log_texts: bool, json_wanted: bool
) -> int:
    """Start a deployment, measure it, stop it, print the result; returns the exit status.

    delay_ms: what its connector waits before it answers. log_texts: whether it logs a line for
    each text and reply. Raises BenchFailed, DemoFailed.
    """
    measured = _own([("", wanted)], processes=processes, delay_ms=delay_ms, log_texts=log_texts)
    return _show(measured, json_wanted=json_wanted)


def bench_targets(wanted: Wanted, *, processes: int, log_texts: bool, json_wanted: bool) -> int:
    """Run the loads that the project's targets are stated for, and print which of them are met.

    wanted: for all but the load. log_texts: as for `bench_own`. Returns the exit status.
    Raises BenchFailed, DemoFailed.
    """
    runs = [
        (name, replace(wanted, rate=rate, messages=messages, seconds=seconds))
        for name, rate, messages, seconds in TARGET_RUNS
    ]
    measured = _own(runs, processes=processes, delay_ms=STEADY_DELAY_MS, log_texts=log_texts)
    return _show(measured, json_wanted=json_wanted, hold_targets=True)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A run, its name, and what its connector waited (None: not known)."""

    name: str
    run: Run
    delay_ms: float | None


def _own(
    runs: Sequence[tuple[str, Wanted]], *, processes: int, delay_ms: float, log_texts: bool
) -> list[_Measured]:
    """Measure each of `runs` with a deployment of its own: idle memory is that of a new one."""
    # Ends like Ctrl+C does: with the processes stopped and the folders gone.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    errors = Console(stderr=True, highlight=False)
    measured = []
    for name, wanted in runs:
        if errors.is_terminal:
            title = f"{name}: s" if name else "S"
            errors.print(f"{title}tarting a sandbox, a Redis and Parley itself ...", style="dim")
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            handlers = Path(folder) / "handlers.py"
            handlers.write_text(HANDLERS, encoding="utf-8")
            # What it logs is what it would in earnest, and in a file: the log is part of the work.
            settings = {"PROCESSES": str(processes), "LOG_LEVEL": "info", "LOG_FORMAT": "json"}
            settings["LOG_TEXTS"] = str(log_texts).lower()
            with Demo(handlers, errors, settings, Path(folder) / "log") as demo:
                place = _place_of(demo, processes=processes, delay_ms=delay_ms)
                measured.append(_Measured(name, _run(place, wanted), delay_ms))
    return measured


def _place_of(demo: Demo, *, processes: int, delay_ms: float) -> Place:
    url = demo.addresses.public + CALLBACK_PATH
    return Place(
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


def status_of(found: Sequence[tuple[Summary, float | None]], *, hold_targets: bool = False) -> int:
    """Return the exit status for runs and what their connectors waited (None: not known).

    1 when a promise was broken; with `hold_targets`, also when a target was missed.
    """
    kept = all(summary.promises.kept for summary, _ in found)
    met = all(each.met for summary, delay_ms in found for each in targets_of(summary, delay_ms))
    return 0 if kept and (met or not hold_targets) else 1


def _show(measured: Sequence[_Measured], *, json_wanted: bool, hold_targets: bool = False) -> int:
    """Print the runs; returns `status_of` them."""
    found = [(each.name, summarize(each.run), each.delay_ms) for each in measured]
    if json_wanted:
        runs = [
            as_json(summary) | {"targets": targets_as_json(targets_of(summary, delay_ms))}
            for _, summary, delay_ms in found
        ]
        names = [name for name, _, _ in found]
        values = dict(zip(names, runs, strict=True)) if len(runs) > 1 else runs[0]
        say_json(values)
    else:
        output = Console(highlight=False)
        for name, summary, delay_ms in found:
            if name:
                output.print(f"{name}:", style="bold")
            output.print(as_table(summary))
            output.print()
            output.print(targets_as_table(targets_of(summary, delay_ms)))
            output.print()
    for _, summary, _ in found:
        say_error(*(f"note: {note}" for note in summary.notes))
    held = [(summary, delay_ms) for _, summary, delay_ms in found]
    return status_of(held, hold_targets=hold_targets)
