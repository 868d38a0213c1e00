"""A service whose libraries are newer than any that was tested."""

from __future__ import annotations

from pathlib import Path

from tests.flow.conftest import ROOT, Deployment, until


def test_texts_are_answered_by_the_ordinary_way_and_the_log_says_so(
    deployment: Deployment, tmp_path: Path
) -> None:
    """After an upgrade the door would answer nobody, or nobody know why it is slow."""
    _say_untested(deployment, tmp_path)
    deployment.serve()

    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)

    assert len(deployment.replies()) == 1
    said = [line for line in deployment.log().splitlines() if "short cut is not taken" in line]
    assert [name for name in ("redis", "uvicorn") if any(f'"{name}"' in line for line in said)] == [
        "redis",
        "uvicorn",
    ]


def test_texts_are_answered_by_a_uvicorn_without_the_connection_that_bounds_are_put_to(
    deployment: Deployment, tmp_path: Path
) -> None:
    """After an upgrade Parley would not start, and end in a traceback."""
    _say_untested(deployment, tmp_path)
    # Python runs this at its start: neither the module nor its parser can be had.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('httptools', 'uvicorn.protocols.http.httptools_impl'):\n"
        "    sys.modules[name] = None\n"
    )
    deployment.serve()

    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)

    assert len(deployment.replies()) == 1
    assert "held to uvicorn's own" in deployment.log()
    assert "Traceback" not in deployment.log()


def _say_untested(deployment: Deployment, folder: Path) -> None:
    """Have libraries say of themselves, before what is installed is found, that they are newer."""
    for name in ("redis", "uvicorn"):
        about = folder / f"{name}-99.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    deployment.settings |= {"PYTHONPATH": f"{folder}:{ROOT}"}
