"""Where in an author's code something happened: the line to open, libraries and Parley aside."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType

from service.core.causes import is_library


def is_authors(frame: FrameType, name: str) -> bool:
    """Say whether a frame is of the author's own code.

    name: of the author's module, which with its package is theirs wherever it is installed.
    """
    module = str(frame.f_globals.get("__name__", ""))
    if module == name or module.startswith(f"{name.partition('.')[0]}."):
        return True
    return not is_library(frame.f_code.co_filename)


def line_of_error(trace: TracebackType | None, handler: Callable[..., object]) -> str:
    """Find the innermost line of the author's that an error passed, `file:line`.

    Where it passed none, as with an answer that is no reply, the handler's definition.
    """
    frames = list(traceback.walk_tb(trace))
    return _first(reversed(frames), handler) or definition_of(handler)


def line_of_stack(frame: FrameType | None, handler: Callable[..., object] | None) -> str:
    """Find the innermost line of the author's in a running stack, `file:line`.

    frame: the innermost. Where there is none of theirs, it is the innermost of all.
    """
    frames = list(traceback.walk_stack(frame)) if frame is not None else []
    if not frames:
        return "?"
    (innermost, line), *_ = frames
    return _first(frames, handler) or f"{innermost.f_code.co_filename}:{line}"


def definition_of(handler: Callable[..., object]) -> str:
    """Find where a handler is written, `file:line`; "" for what is no function."""
    code = getattr(inspect.unwrap(handler), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def _first(frames: Iterable[tuple[FrameType, int]], handler: Callable[..., object] | None) -> str:
    name = getattr(handler, "__module__", None) or "parley_handlers"
    for frame, line in frames:
        if is_authors(frame, name):
            return f"{frame.f_code.co_filename}:{line}"
    return ""
