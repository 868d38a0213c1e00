"""`parley demo` on the terminal: the transcript, and where to go on from there."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from service.lab.demo import Demo

PORT = 9090
"""Of the phone page, as the sandbox's own; the service's public and internal ones follow it."""

LOOKS_EVERY_S = 15
"""Pause between two looks at the instance: whoever deletes it from the page sees it come back."""


def play_demo(
    *,
    once: bool,
    handlers: Path | None,
    reload: bool,
    connect: bool,
    port: int | None,
    settings: Mapping[str, str],
    environ: Mapping[str, str],
) -> int:
    """Run the demo on the terminal.

    once: end after the transcript instead of running on. handlers: run these, without a script.
    reload: start the service anew when they change. connect: start with nothing set up.
    port: of the phone page, None for the usual one, or a free one if that is taken.
    settings, environ: see `Demo`.
    Returns the exit status: 0, or 1 when an expected reply was missing.
    Raises DemoFailed; SettingsError when `port` is not to be had.
    """
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, _interrupt)
    console.print("Starting a sandbox, a Redis and Parley itself ...", style="dim")
    settings = {"CONNECTOR_WATCH_S": str(LOOKS_EVERY_S), **settings}
    made = Demo(
        handlers,
        console,
        settings,
        environ=environ,
        connect=connect,
        port=PORT if port is None else port,
        must=port is not None,
    )
    try:
        with made as demo:
            good = True
            if connect:
                _ask_to_connect(console, demo)
            elif handlers is None and "HANDLERS" not in settings:
                console.print()
                good = demo.play()
            if once:
                return 0 if good else 1
            demo.introduce()
            console.print()
            _invite(console, demo, reload=reload)
            demo.wait(reload=reload)
    except KeyboardInterrupt:
        console.print("Stopped.", style="dim")
    return 0


def _ask_to_connect(console: Console, demo: Demo) -> None:
    """Say what there is to type, and where."""
    console.print()
    console.print("Nothing is set up. These are the sandbox's credentials:")
    for name, value in demo.to_type.items():
        console.print(Text.assemble(f"  {name:<37}", (value, "bold")), soft_wrap=True)
    console.print("Type them on the console's Connect page, or by `parley connect` (as below).")
    if not sys.stderr.isatty():  # Else the service has said it there.
        console.print(Text(f"  {demo.console_address()}", style="bold"), soft_wrap=True)


def _invite(console: Console, demo: Demo, *, reload: bool) -> None:
    """Say where the phone is, and how to look inside."""
    console.print(Text.assemble("Text it yourself: ", (demo.addresses.sandbox, "bold")))
    command = f"(. {shlex.quote(str(demo.settings_file))} && {_parley()} dead list)"
    console.print("Its dead letters, from another terminal (every parley command works so):")
    console.print(f"  {command}", soft_wrap=True, markup=False)
    if reload:
        console.print("A change of the handlers file starts the service anew.", style="dim")
    console.print("Ctrl+C stops the demo and leaves nothing behind.", style="dim")


def _parley() -> str:
    """Say how to call the command that this is, from any folder."""
    called = Path(sys.argv[0])
    if called.name != "parley":
        return f"{shlex.quote(sys.executable)} -m service"
    found = shutil.which("parley")
    return "parley" if found and called.samefile(found) else shlex.quote(str(called.absolute()))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
