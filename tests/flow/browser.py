"""The system's Chromium, and how it is started."""

from __future__ import annotations

import shutil
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

AXE = Path(__file__).parents[1] / "assets" / "axe-core" / "axe.min.js"
"""Looks for what keeps people from using a page; `VIOLATIONS` is what it has found."""

VIOLATIONS = """axe.run().then(found => JSON.stringify(found.violations.map(
  each => [each.id, each.nodes.map(node => node.target.join(" ") + ": " + node.failureSummary)]
)))"""

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels that a page is wider than its window."""
