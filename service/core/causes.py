"""Says in a few words what an error is and where it came from, for a line of the log."""

from __future__ import annotations

import traceback
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
"""Ours: frames of a library rarely tell what to look at."""

STANDARD_LIBRARY = Path(traceback.__file__).parent


def cause_of(error: BaseException) -> dict[str, str]:
    """Return `error`, its class and text, and `at`, file and line of our innermost frame in it.

    Without a frame of ours, `at` is the innermost one; without any, it is left out.
    """
    said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if PACKAGE in Path(frame.filename).parents]
    if not frames:
        return {"error": said}
    frame = (ours or frames)[-1]
    path = Path(frame.filename)
    place = path.relative_to(PACKAGE.parent) if ours else path
    return {"error": said, "at": f"{place}:{frame.lineno} in {frame.name}"}


def kind_of(error: BaseException) -> dict[str, str]:
    """Return `error`, its class alone, and `at`, file and line of an author's innermost frame.

    For an error that may be a handler's, of which nobody knows the message: what it says may be
    somebody's text. Without a frame of an author's, `at` is the innermost one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    known = {"error": type(error).__name__}
    if not frames:
        return known
    authors = [frame for frame in frames if not is_library(frame.filename)]
    frame = (authors or frames)[-1]
    return {**known, "at": f"{frame.filename}:{frame.lineno} in {frame.name}"}


def is_library(file: str) -> bool:
    """Say whether a source file is Parley's, the standard library's or another library's.

    What is wrong in a line of these was reached from a line of the author's.
    """
    folders = (PACKAGE, STANDARD_LIBRARY)
    return (
        any(Path(file).is_relative_to(folder) for folder in folders)
        or "-packages" in file
        or file.startswith("<")
    )
