"""What processes and Redis used, read where the system keeps it: /proc and INFO.

Linux alone has /proc; elsewhere nothing is found, and the caller says so.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
INFO_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Process:
    """A running process and what it has used so far; memory in MiB."""

    pid: int
    parent: int
    command: str
    cpu_s: float


def available() -> bool:
    """Tell whether this system says what processes use."""
    return (PROC / "self/stat").exists()


def family(pid: int) -> list[Process]:
    """Find a process and all it has started; empty when there is none, or no /proc."""
    everybody = {each.pid: each for each in _processes()}
    found = [everybody[pid]] if pid in everybody else []
    for each in found:
        found += [other for other in everybody.values() if other.parent == each.pid]
    return found


def memory_mb(pid: int) -> tuple[float, float] | None:
    """Return resident and proportional memory (RSS, PSS), in MiB."""
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return None
    values = dict(re.findall(r"^(Rss|Pss):\s+([0-9]+) kB", text, re.MULTILINE))
    return int(values["Rss"]) / 1024, int(values["Pss"]) / 1024


def command_counts(address: Path) -> Mapping[str, int] | None:
    """Ask a Redis server how often it has run each command; None when it can't be asked.

    address: its Unix socket. Those run within scripts are counted too.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(INFO_TIMEOUT_S)
            connection.connect(str(address))
            connection.sendall(b"INFO commandstats\r\n")
            with connection.makefile("rb") as answer:
                head = answer.readline()
                text = answer.read(int(head[1:])).decode() if head[:1] == b"$" else ""
    except (OSError, ValueError):
        return None
    rows = re.findall(r"^cmdstat_([^:]+):calls=([0-9]+)", text, re.MULTILINE)
    return {name: int(calls) for name, calls in rows} or None


def _processes() -> Iterable[Process]:
    if not available():
        return
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, ValueError):
                continue  # Gone meanwhile.
            # The name in brackets may hold anything; the fields behind it are counted from 3.
            fields = stat.rpartition(")")[2].split()
            cpu_s = (int(fields[11]) + int(fields[12])) * tick_s
            yield Process(int(folder.name), int(fields[1]), command, cpu_s)
