"""A service whose libraries are newer than any that was tested."""

from __future__ import annotations

from pathlib import Path

from tests.flow.conftest import ROOT, Deployment, until


def test_texts_are_answered_by_the_ordinary_way_and_the_log_says_so(
    deployment: Deployment, tmp_path: Path
) -> None:
    """After an upgrade the door would answer nobody, or nobody know why it is slow."""
    # What the libraries say of themselves, found before what is installed.
    for name in ("redis", "uvicorn"):
        about = tmp_path / f"{name}-99.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    deployment.settings |= {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    deployment.serve()

    assert deployment.text("hello")["status"] == 200
    until(deployment.replies)

    assert len(deployment.replies()) == 1
    said = [line for line in deployment.log().splitlines() if "short cut is not taken" in line]
    assert [name for name in ("redis", "uvicorn") if any(f'"{name}"' in line for line in said)] == [
        "redis",
        "uvicorn",
    ]
