"""The regions that are known."""

from __future__ import annotations

import pytest

from service.core.open_connectors.regions import REGIONS, region_of
from service.settings.setup import load_given

GIVEN = {"PUBLIC_URL": "https://sms.example.com", "SECRET_KEY": "k" * 40}


@pytest.mark.parametrize("name", REGIONS)
def test_each_has_an_address_that_the_settings_take(name: str) -> None:
    """Somebody would choose a region, and be told that its address is wrong."""
    _, address = REGIONS[name]
    given = load_given(environ=GIVEN)
    partial = given.partial({"open_connectors_base_url": address})
    assert partial.open_connectors_base_url == address
    assert region_of(f" {address}/ ") == name


def test_another_address_is_of_none() -> None:
    """A region would be shown that was not chosen."""
    assert region_of("https://api.openconnectors.eu1.ext.hana.ondemand.com") == ""
    assert region_of("") == ""
