"""Loading a deployment's handlers, and saying what is wrong with them."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import Router
from service.errors import HandlersError
from service.handlers.loading import load_router

GOOD = """
    from service import Message, Router

    router = Router()

    @router.default
    def answer(message: Message) -> str:
        return "yes"
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Forget afterwards what a test imported, and from where."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    importlib.invalidate_caches()


def write(file: Path, code: str) -> Path:
    """Write a Python file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(code).lstrip("\n"), encoding="utf-8")
    return file


def load(folder: Path, code: str) -> Router:
    """Load a handlers file with this code."""
    write(folder / "handlers.py", code)
    return load_router("handlers.py", folder)


def refusal(folder: Path, code: str) -> str:
    """Load a handlers file that is wrong; returns what is said, the folder left out."""
    with pytest.raises(HandlersError) as caught:
        load(folder, code)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    "target", ["handlers.py", "./handlers.py", "{folder}/handlers.py", "sub/../handlers.py"]
)
def test_a_file_is_found_from_the_folder_of_the_configuration(tmp_path: Path, target: str) -> None:
    """HANDLERS only works from one working directory."""
    write(tmp_path / "handlers.py", GOOD)
    write(tmp_path / "sub" / "other.py", "")
    assert len(load_router(target.format(folder=tmp_path), tmp_path)) == 1


def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    """Names with a dash, or the name of a module that exists, are refused."""
    for name in ("my-bot.py", "json.py", "handlers.v2.py"):
        write(tmp_path / name, GOOD)
        assert len(load_router(name, tmp_path)) == 1


def test_neighbours_can_be_imported_at_once_and_later(tmp_path: Path) -> None:
    """Handlers could not be spread over several files."""
    write(tmp_path / "orders_of_ours.py", "STATE = 'sent'")
    write(tmp_path / "later_of_ours.py", "STATE = 'later'")
    router = load(
        tmp_path,
        """
        from service import Router
        import orders_of_ours

        router = Router()

        @router.default
        def answer(message):
            import later_of_ours
            return orders_of_ours.STATE + later_of_ours.STATE
        """,
    )
    assert router._handlers[0](None) == "sentlater"  # The handler itself is what is tested.


def test_neighbours_do_not_shadow_what_is_imported_later(tmp_path: Path) -> None:
    """A file called like a library breaks Parley at some import hours after the start."""
    before = list(sys.path)
    load(tmp_path, GOOD)
    assert sys.path[: len(before)] == before


def test_dataclasses_and_pickles_work_in_a_handlers_file(tmp_path: Path) -> None:
    """Ordinary code fails in a handlers file with an error about `sys.modules`."""
    router = load(
        tmp_path,
        """
        from __future__ import annotations

        import pickle
        from dataclasses import KW_ONLY, dataclass
        from typing import ClassVar, get_type_hints

        from service import Router

        @dataclass(slots=True)
        class Order:
            kind: ClassVar[str] = "order"
            number: int
            _: KW_ONLY
            state: str = "new"

        assert pickle.loads(pickle.dumps(Order(7))) == Order(7)
        assert get_type_hints(Order)["number"] is int

        router = Router()
        router.default(lambda message: str(Order(7)))
        """,
    )
    assert router._handlers[0](None) == "Order(number=7, state='new')"


def test_a_router_by_another_name_will_do_if_it_is_the_only_one(tmp_path: Path) -> None:
    """A file that calls its router `app` is refused although nothing is unclear."""
    assert len(load(tmp_path, GOOD.replace("router", "app"))) == 1
    assert len(load(tmp_path, GOOD + "\n    app = router\n    router = None")) == 1


def test_of_several_routers_the_one_called_router_is_meant(tmp_path: Path) -> None:
    """Routers put together from parts are refused, or the wrong one is served."""
    assert len(load(tmp_path, GOOD + "\n    another = Router()")) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(
            "x = 1\ndef (:\n",
            "handlers.py:2: SyntaxError: invalid syntax\n    def (:",
            id="a syntax error",
        ),
        pytest.param(
            "def f():\nreturn 1\n",
            "handlers.py:2: IndentationError: expected an indented block after function definition"
            " on line 1\n    return 1",
            id="wrong indentation",
        ),
        pytest.param(
            "\nimport no_such_library\n",
            "handlers.py:1: ModuleNotFoundError: No module named 'no_such_library'"
            "\n    import no_such_library",
            id="a library that is not installed",
        ),
        pytest.param(
            "x = 1\nfrom json import nothing\n",
            "handlers.py:2: ImportError: cannot import name 'nothing' from 'json'",
            id="a name that is not there",
        ),
        pytest.param(
            "import neighbour_that_fails\n",
            "neighbour_that_fails.py:2: ZeroDivisionError: division by zero\n    1 / 0",
            id="an exception in a neighbour",
        ),
        pytest.param(
            "import neighbour_with_syntax\n",
            "neighbour_with_syntax.py:1: SyntaxError: invalid syntax\n    x =",
            id="a syntax error in a neighbour",
        ),
        pytest.param(
            "import os\n\nKEY = os.environ['NO_SUCH_SETTING']\n",
            "handlers.py:3: KeyError: 'NO_SUCH_SETTING'\n    KEY = os.environ['NO_SUCH_SETTING']",
            id="an exception in a library, at the line that led there",
        ),
        pytest.param(
            "def make():\n    raise RuntimeError('two\\n  lines')\n\nmake()\n",
            "handlers.py:2: RuntimeError: two lines\n    raise RuntimeError('two\\n  lines')",
            id="an exception in a function of its own",
        ),
        pytest.param(
            "assert False\n", "handlers.py:1: AssertionError\n    assert False", id="no words"
        ),
        pytest.param(
            "import sys\nsys.exit('no key')\n",
            "handlers.py:2: SystemExit: no key\n    sys.exit('no key')",
            id="an exit",
        ),
        pytest.param(
            "x = 1\neval('1 +')\n",
            "handlers.py:2: SyntaxError: invalid syntax",
            id="a syntax error in a text",
        ),
        pytest.param(
            "from service import Router\nRouter().choose()\n",
            "handlers.py:2: TypeError: Router.choose() missing",
            id="a wrong call of the router",
        ),
        pytest.param(
            "x = 1\n",
            "handlers.py:1: there is no `router`; begin with:  from service import Router",
            id="no router",
        ),
        pytest.param("", "handlers.py:1: there is no `router`", id="an empty file"),
        pytest.param("router = 7\n", "handlers.py:1: there is no `router`", id="another thing"),
        pytest.param(
            "from service import Router\na, b = Router(), Router()\n",
            "handlers.py:1: there are several routers; call the one that is meant `router`",
            id="two routers",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_file_and_line(tmp_path: Path, code: str, said: str) -> None:
    """The service does not start, and its operator is shown a traceback of importlib."""
    write(tmp_path / "neighbour_that_fails.py", "x = 1\n1 / 0\n")
    write(tmp_path / "neighbour_with_syntax.py", "x =\n")
    assert refusal(tmp_path, code).startswith(said)


def test_a_route_conflict_is_told_with_both_lines(tmp_path: Path) -> None:
    """The author learns at the first text that a route never runs."""
    code = """
        from service import Router

        router = Router()

        @router.keyword("BALANCE")
        def first(message): ...

        @router.keyword("hello", "Balance!")
        async def second(message): ...
    """
    assert refusal(tmp_path, code) == (
        "handlers.py:8: keyword HELLO BALANCE can never be reached: keyword BALANCE is taken "
        "(keyword BALANCE at handlers.py:5)"
    )


@pytest.mark.parametrize(
    ("route", "said"),
    [
        pytest.param('@router.keyword("?")', "keyword '?' has no letter", id="keyword"),
        pytest.param("@router.keyword", "keyword needs its words", id="keyword without words"),
        pytest.param('@router.pattern("(")', "pattern '(' does not compile", id="pattern"),
        pytest.param('@router.pattern("(?P<n>a)")', "answer must take (message, n)", id="groups"),
        pytest.param("@router.to", "to needs a number", id="to without a number"),
        pytest.param(
            '@router.to("+1 (415) 555-0100")',
            "to needs a number as Twilio writes it, as +14155550100",
            id="to a number with blanks",
        ),
        pytest.param(
            '@router.to("whatsapp:+1-415")', "to needs a number as Twilio", id="to a channel's"
        ),
        pytest.param(
            '@router.pattern(r"$5 off")',
            "pattern '$5 off' is found in no text: it asks for something before its beginning or",
            id="a pattern for no text",
        ),
    ],
)
def test_a_wrong_route_is_told_with_its_line(tmp_path: Path, route: str, said: str) -> None:
    """The author has to guess which of fifty routes is meant."""
    code = f"from service import Router\nrouter = Router()\n\n{route}\ndef answer(message): ...\n"
    assert refusal(tmp_path, code).startswith(f"handlers.py:4: {said}")


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """An editor of another age saves the file, and the service ends with a traceback."""
    (tmp_path / "handlers.py").write_bytes("x = 'Grüße'\n".encode("latin-1"))
    with pytest.raises(HandlersError, match=r"handlers\.py:1: SyntaxError: .*utf-8"):
        load_router("handlers.py", tmp_path)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        pytest.param(
            "nothing.py", "{folder}/nothing.py: there is no such handlers file", id="file"
        ),
        pytest.param(
            "folder.py", "{folder}/folder.py: there is no such handlers file", id="folder"
        ),
        pytest.param("./notes.txt", "{folder}/notes.txt: is no Python file", id="a text"),
        pytest.param("no_such", "no_such: there is no such module", id="module"),
        pytest.param("no_such.part", "no_such.part: there is no such module", id="package"),
        pytest.param("json.no_such", "json.no_such: there is no such module", id="part"),
    ],
)
def test_a_target_that_is_not_there_is_told(tmp_path: Path, target: str, said: str) -> None:
    """A typing error in HANDLERS looks like a defect of Parley."""
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(HandlersError) as caught:
        load_router(target, tmp_path)
    assert str(caught.value).startswith(said.format(folder=tmp_path))


def test_a_router_without_routes_is_told_with_its_line(tmp_path: Path) -> None:
    """A service that can answer nobody starts, and every text is taken and left unanswered."""
    said = refusal(tmp_path, "from service import Router\n\nrouter = Router()\n")
    assert said.startswith("handlers.py:3: the router has no routes")


def test_a_route_that_patterns_hide_is_told_with_both_lines(tmp_path: Path) -> None:
    """The author wonders for days why the keyword is never answered."""
    router = load(
        tmp_path,
        """
        from service import Router
        router = Router()

        @router.pattern("bal")
        @router.pattern("credit")
        def near(message): ...

        @router.keyword("Balance", "Credit")
        def balance(message): ...

        @router.keyword("STOP", "Bal")
        def stop(message): ...
        """,
    )
    (doubt,) = router.doubts
    assert doubt.replace(f"{tmp_path}/", "") == (
        "handlers.py:8: keyword BALANCE CREDIT is not reached by its words as people type them: "
        "they are taken before it (pattern bal at handlers.py:4, pattern credit at handlers.py:5)"
    )


def test_a_module_is_loaded_by_its_name(tmp_path: Path) -> None:
    """Handlers that are installed as a package could not be used."""
    write(tmp_path / "bot_of_ours" / "__init__.py", "")
    write(tmp_path / "bot_of_ours" / "routes.py", GOOD)
    sys.path.append(str(tmp_path))
    assert len(load_router("bot_of_ours.routes", Path("/nowhere"))) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("x = 1\n1 / 0\n", "routes.py:2: ZeroDivisionError", id="an exception"),
        pytest.param("x =\n", "routes.py:1: SyntaxError", id="a syntax error"),
        pytest.param("import no_such\n", "routes.py:1: ModuleNotFoundError", id="an import"),
        pytest.param("from . import other\n", "other.py:1: NameError", id="in its package"),
        pytest.param("x = 1\n", "routes.py:1: there is no `router`", id="no router"),
        pytest.param(
            "from service import Router\nRouter().keyword()\n",
            "routes.py:2: keyword needs its words",
            id="a route",
        ),
    ],
)
@pytest.mark.parametrize("installed", [False, True], ids=["on PYTHONPATH", "installed"])
def test_what_is_wrong_in_a_module_is_told_with_its_file_and_line(
    tmp_path: Path, code: str, said: str, *, installed: bool
) -> None:
    """Installed handlers that fail are reported without the line."""
    folder = tmp_path / ("site-packages" if installed else "project")
    write(folder / "bot_of_ours" / "__init__.py", "")
    write(folder / "bot_of_ours" / "other.py", "oops\n")
    write(folder / "bot_of_ours" / "routes.py", code)
    sys.path.append(str(folder))
    with pytest.raises(HandlersError) as caught:
        load_router("bot_of_ours.routes", tmp_path)
    assert str(caught.value).startswith(f"{folder}/bot_of_ours/{said}")


def test_a_module_without_a_file_is_told_too(tmp_path: Path) -> None:
    """HANDLERS=sys ends with a traceback."""
    with pytest.raises(HandlersError, match="sys:1: there is no `router`"):
        load_router("sys", tmp_path)


def test_ctrl_c_during_the_import_stops_the_start(tmp_path: Path) -> None:
    """Ctrl+C while handlers load is reported as a mistake in them."""
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, "raise KeyboardInterrupt\n")


def test_a_refused_file_can_be_mended_and_loaded_again(tmp_path: Path) -> None:
    """The first error sticks until the process is started anew."""
    refusal(tmp_path, "x =\n")
    assert len(load(tmp_path, GOOD)) == 1
