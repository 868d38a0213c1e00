"""The regions of Open Connectors whose base addresses are known. Pure.

Source: SAP's documentation of the connector (us2), and public code that calls the trial regions.
Any other region's address is `https://api.openconnectors.<region>.ext.hana.ondemand.com`.
"""

from __future__ import annotations

from collections.abc import Mapping

API = "/elements/api-v2"

REGIONS: Mapping[str, tuple[str, str]] = {
    "us2": ("US2", f"https://api.openconnectors.us2.ext.hana.ondemand.com{API}"),
    "trial-us10": (
        "Trial, US10",
        f"https://api.openconnectors.trial.us10.ext.hana.ondemand.com{API}",
    ),
    "trial": ("Older trial", f"https://api.openconnectors.ext.hanatrial.ondemand.com{API}"),
}
"""What each is called, and its base address, by a short name for forms."""


def region_of(address: str) -> str:
    """Return the short name of the region that has this base address; "" for none of these."""
    wanted = address.strip().rstrip("/")
    return next((name for name, (_, each) in REGIONS.items() if each == wanted), "")
