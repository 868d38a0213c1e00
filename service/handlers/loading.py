"""Loads the handlers: a file or a module that defines `router`.

Whatever is wrong in it becomes one HandlersError that begins with the file and the line.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType

from service.errors import HandlersError
from service.handlers.places import is_authors
from service.handlers.router import Router

MODULE_NAME = "parley_handlers"
"""What a handlers file is called once loaded, so that pickling and dataclasses find it again."""


def load_router(target: str, base: Path) -> Router:
    """Load the router from a file or a module.

    target: a path that ends in .py or holds a slash, or a dotted module name.
    base: folder that a relative path starts from. A file may import its neighbours.
    Raises HandlersError.
    """
    if target.endswith(".py") or "/" in target:
        path = (base / target).resolve()
        return _router_of(_load_file(path), str(path))
    module = _load_module(target)
    return _router_of(module, getattr(module, "__file__", None) or target)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise HandlersError(f"{path}: there is no such handlers file; set HANDLERS to yours")
    spec = spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise HandlersError(f"{path}: is no Python file")
    module = module_from_spec(spec)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    sys.modules[MODULE_NAME] = module
    try:
        spec.loader.exec_module(module)
    except HandlersError:
        sys.modules.pop(MODULE_NAME, None)
        raise
    except BaseException as error:
        sys.modules.pop(MODULE_NAME, None)
        raise _explain(error, str(path), MODULE_NAME) from error
    finally:
        # Neighbours are imported by now, or inside handlers later: those use absolute names.
        if folder in sys.path:
            sys.path.remove(folder)
            sys.path.append(folder)
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except HandlersError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise HandlersError(
                f"{name}: there is no such module; set HANDLERS to a file or a module on PYTHONPATH"
            ) from error
        raise _explain(error, name, name) from error
    except BaseException as error:
        raise _explain(error, name, name) from error


def _router_of(module: ModuleType, place: str) -> Router:
    found = getattr(module, "router", None)
    if isinstance(found, Router):
        return _with_routes(found)
    routers = {id(value): value for value in vars(module).values() if isinstance(value, Router)}
    if len(routers) == 1:
        return _with_routes(next(iter(routers.values())))
    if routers:
        raise HandlersError(
            f"{place}:1: there are several routers; call the one that is meant `router`"
        )
    raise HandlersError(
        f"{place}:1: there is no `router`; begin with:  from service import Router"
        "  and  router = Router()"
    )


def _with_routes(router: Router) -> Router:
    if not len(router):
        raise HandlersError(
            f"{router.place}: the router has no routes, so that no text would be answered; "
            "begin with:  @router.default"
        )
    return router


def _explain(error: BaseException, place: str, name: str) -> HandlersError:
    """Turn what an import raised into one line: where, what, and the source line below it.

    place: file or module, for want of a better one. name: what the imported module is called.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    file, line, source = _frame_of(error.__traceback__, place, name)
    said = str(error)
    # Of code in a text, as given to eval(), the line that evaluates it is shown instead.
    if isinstance(error, SyntaxError) and not (error.filename or "<").startswith("<"):
        file, line, source = str(error.filename), error.lineno or 1, error.text or ""
        said = error.msg
    what = " ".join(f"{type(error).__name__}: {said}".split()).removesuffix(":")
    shown = f"\n    {source.strip()}" if source.strip() else ""
    return HandlersError(f"{file}:{line}: {what}{shown}")


def _frame_of(trace: TracebackType | None, place: str, name: str) -> tuple[str, int, str]:
    """Find the innermost line of the user's own code, libraries and import machinery aside.

    The imported module and its package are the user's wherever they are installed.
    """
    found = place, 1, ""
    for (frame, _), summary in zip(
        traceback.walk_tb(trace), traceback.extract_tb(trace), strict=True
    ):
        if is_authors(frame, name):
            found = summary.filename, summary.lineno or 1, summary.line or ""
    return found
