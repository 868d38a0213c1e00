"""The pytest plugin as an author meets it: found by itself, and out of the way until it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HANDLERS = """
    import sys

    from service import Message, Router

    router = Router()


    @router.keyword("WHO")
    async def who(message: Message) -> str:
        return "{name}"


    @router.keyword("BROKEN")
    async def broken(message: Message) -> str:
        return look_up(message.body)


    def look_up(word: str) -> str:
        raise LookupError(f"nothing like {{word}}")
"""

ASKS = """
    def test_who(phones):
        assert phones("+15551230001").send("who") == ["{name}"]
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs these tests count for nothing."""
    for name in ("CONFIG_DIR", "HANDLERS", "HANDLERS_FILE", "TWILIO_SENDER", "LONG_REPLIES"):
        monkeypatch.delenv(name, raising=False)


def write(pytester: pytest.Pytester, path: str, name: str) -> None:
    """Write a handlers file that answers WHO with its name."""
    place = pytester.path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    lines = HANDLERS.format(name=name).splitlines()
    place.write_text("\n".join(line.removeprefix("    ") for line in lines))


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the tests written so far, each warning an error, as a user does."""
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *arguments)


def test_the_ini_option_names_a_file_beside_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests are run from another folder, and the handlers are not found."""
    write(pytester, "src/mine.py", "file")
    pytester.makeini("[pytest]\nparley_handlers = src/mine.py\n")
    tests = pytester.mkdir("tests")
    (tests / "test_it.py").write_text("\n".join(ASKS.format(name="file").split("\n    ")))

    monkeypatch.chdir(tests)
    run(pytester).assert_outcomes(passed=1)


def test_the_ini_option_names_a_module(pytester: pytest.Pytester) -> None:
    """Handlers that are a package can't be tested."""
    write(pytester, "src/bot/routes.py", "module")
    (pytester.path / "src/bot/__init__.py").touch()
    pytester.makeini("[pytest]\nparley_handlers = bot.routes\npythonpath = src\n")
    pytester.makepyfile(ASKS.format(name="module"))

    run(pytester).assert_outcomes(passed=1)


@pytest.mark.long
def test_without_it_the_handlers_are_those_of_a_start(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other handlers are tested than those that run."""
    write(pytester, "config/handlers.py", "default")
    write(pytester, "config/other.py", "service.toml")
    write(pytester, "set.py", "environment")
    settings = pytester.path / "config/service.toml"
    settings.write_text("")
    pytester.makepyfile(
        test_default=ASKS.format(name="default"),
        test_toml=ASKS.format(name="service.toml"),
        test_environment=ASKS.format(name="environment"),
    )

    run(pytester, "test_default.py").assert_outcomes(passed=1)
    settings.write_text('handlers = "other.py"\n')
    run(pytester, "test_toml.py").assert_outcomes(passed=1)
    monkeypatch.setenv("HANDLERS", "set.py")
    run(pytester, "test_environment.py").assert_outcomes(passed=1)


@pytest.mark.long
def test_the_settings_of_handlers_count_and_secrets_may_be_missing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a deployment has set for its handlers is not tested."""
    write(pytester, "mine.py", "x")
    pytester.makeini("[pytest]\nparley_handlers = mine.py\n")
    for name, value in {
        "TWILIO_SENDER": "+14155550100",
        "HANDLER_ATTEMPTS": "2",
        "HANDLER_TIMEOUT_S": "3.5",
        "LONG_REPLIES": "refuse",
        "OPT_OUT_WORDS": "none",
        "PARTITIONS": "many",  # Wrong, and no matter of handlers.
        "HANDLERS": "gone.py",  # The ini option is stronger.
    }.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile("""
        def test_settings(phones):
            assert (phones.sender, phones.attempts) == ("+14155550100", 2)
            assert (phones.timeout_s, phones.long_replies) == (3.5, "refuse")
            assert phones.opt_out_words == frozenset()
    """)

    run(pytester).assert_outcomes(passed=1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("handlers", "environ", "said"),
    [
        ("from service import Routr", {}, "*mine.py:1: ImportError: cannot import name 'Routr'*"),
        ("", {"HANDLER_ATTEMPTS": "few"}, "*HANDLER_ATTEMPTS is not a whole number (environment)*"),
    ],
    ids=["handlers", "settings"],
)
def test_what_stops_a_start_is_said_without_a_traceback(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    handlers: str,
    environ: dict[str, str],
    said: str,
) -> None:
    """An author reads a page of ours to find the line of theirs."""
    (pytester.path / "mine.py").write_text(handlers)
    pytester.makeini("[pytest]\nparley_handlers = mine.py\n")
    pytester.makepyfile(ASKS.format(name="x"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    result = run(pytester)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])
    assert "service/wiring" not in result.stdout.str()


@pytest.mark.long
def test_a_failure_shows_the_authors_lines_and_none_of_ours(pytester: pytest.Pytester) -> None:
    """The line to mend is lost between twenty of the library."""
    write(pytester, "mine.py", "x")
    pytester.makeini("[pytest]\nparley_handlers = mine.py\n")
    pytester.makepyfile("""
        def test_broken(phones):
            phones("+15551230001").send("broken")
    """)

    result = run(pytester)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_*.py:2:*",
            "mine.py:16: in broken",
            "E*LookupError: nothing like broken",
            "mine.py:20: *",
        ]
    )
    assert "service/handlers" not in result.stdout.str()


@pytest.mark.long
def test_sync_and_async_tests_share_module_level_clients(pytester: pytest.Pytester) -> None:
    """A client that a handler keeps belongs to a loop: with a loop a test, each test breaks it."""
    pytester.makeini("[pytest]\nparley_handlers = mine.py\n")
    pytester.makepyfile(
        mine="""
            import asyncio

            from service import Router

            router = Router()
            queue = asyncio.Queue()
            loops = set()

            @router.default
            async def ask(message):
                loops.add(asyncio.get_running_loop())
                await asyncio.wait({asyncio.ensure_future(queue.get()),
                                    asyncio.ensure_future(queue.put(message.body))})
                return f"{message.body} {len(loops)}"
        """,
        test_it="""
            import asyncio
            import pytest

            @pytest.fixture
            def anyio_backend():
                return "asyncio"

            def test_sync(phones):
                assert phones("+15551230001").send("a") == ["a 1"]

            @pytest.mark.anyio
            async def test_async(phones):
                assert phones("+15551230001").send("b") == ["b 1"]
                assert asyncio.get_running_loop().is_running()

            def test_inside_a_loop(phones):
                async def inside():
                    return phones("+15551230001").send("c")

                assert asyncio.run(inside()) == ["c 1"]
        """,
    )

    run(pytester).assert_outcomes(passed=3)


RUN = """
import sys, pytest
assert pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", *sys.argv[1:]]) == 5
print(*sys.modules)
"""


def modules_of(folder: Path, *arguments: str) -> set[str]:
    """Name what is imported by a run of pytest that finds no tests."""
    # `pytest --version` is no run: it loads no plugins.
    command = [sys.executable, "-c", RUN, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True)
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.long
def test_it_costs_other_peoples_tests_next_to_nothing(tmp_path: Path) -> None:
    """Every run of pytest in the environment gets slower, whether it tests handlers or not."""
    with_us, without = modules_of(tmp_path), modules_of(tmp_path, "-p", "no:parley")

    assert "service.wiring.pytest_plugin" in with_us
    # No router, no loop, no settings: two modules of ours, and the packages they lie in.
    assert {name for name in with_us - without if name not in sys.stdlib_module_names} == {
        "service",
        "service.wiring",
        "service.wiring.pytest_plugin",
    }
