"""Formula templates: their variables, and filling them."""

from __future__ import annotations

import pytest

from service.core.open_connectors.formula_templates import (
    FormulaTemplate,
    FormulaVariable,
    choose_template,
    fill_template,
    read_at_work,
    read_templates,
    read_values,
)
from service.errors import UsageError


def template(**variables: str) -> FormulaTemplate:
    """A template with variables of these kinds."""
    found = tuple(FormulaVariable(key, key, kind) for key, kind in variables.items())
    return FormulaTemplate("301", "Texts to CRM", found)


ONE = template(texts="elementInstance", every="value")
TWO = template(texts="elementInstance", crm="elementInstance")


def test_what_the_platform_lists_is_read() -> None:
    """One odd row would hide all others."""
    entry = {"key": "texts", "name": "T", "type": "elementInstance"}
    rows = [{"id": 301, "name": "A", "configuration": [entry, {"name": "x"}, 7]}, 7, {"name": "B"}]
    (found,) = read_templates(rows)
    (at_work,) = read_at_work(
        [{"id": 9, "name": "n", "formula": {"id": 301, "name": "A"}, "active": False}, {}]
    )

    assert (found.id, found.variables) == (
        "301",
        (FormulaVariable("texts", "T", "elementInstance"),),
    )
    assert (at_work.id, at_work.template_id, at_work.active) == ("9", "301", False)
    assert read_templates({}) == []
    assert read_at_work(None) == []


@pytest.mark.parametrize(
    ("of", "values", "filled"),
    [
        (ONE, {"every": "5"}, {"texts": "77", "every": "5"}),
        (TWO, {"crm": "12"}, {"texts": "77", "crm": "12"}),
        (TWO, {"crm": "77", "texts": "12"}, {"texts": "12", "crm": "77"}),
    ],
    ids=["the only one", "the one left out", "as said"],
)
def test_our_instance_is_filled_in(
    of: FormulaTemplate, values: dict[str, str], filled: dict[str, str]
) -> None:
    """The formula would work on somebody else's texts."""
    assert fill_template(of, values, "77") == filled


@pytest.mark.parametrize(
    ("of", "values", "says"),
    [
        (ONE, {}, "every have no value"),
        (ONE, {"every": "5", "evry": "5"}, "it has every, texts"),
        (TWO, {}, "texts, crm"),
        (TWO, {"crm": "1", "texts": "2"}, "no variable has our instance"),
        (template(every="value"), {"every": "5"}, "no variable that an instance"),
    ],
)
def test_what_is_not_filled_is_named(
    of: FormulaTemplate, values: dict[str, str], says: str
) -> None:
    """The platform would answer 400, or make a formula that does nothing."""
    with pytest.raises(UsageError, match=says):
        fill_template(of, values, "77")


def test_a_template_is_chosen_by_id_or_name() -> None:
    """Of two with one name the wrong one would be put to work."""
    other = FormulaTemplate("302", "texts to crm", ())
    assert choose_template([ONE, other], "302") is other
    assert choose_template([ONE], "TEXTS TO CRM") is ONE
    with pytest.raises(UsageError, match="301, 302"):
        choose_template([ONE, other], "Texts to CRM")
    with pytest.raises(UsageError, match=r"301 \(Texts to CRM\)"):
        choose_template([ONE], "nothing")


@pytest.mark.parametrize("said", ["key", "=v", "key="])
def test_a_variable_that_says_nothing_is_refused(said: str) -> None:
    """An unset variable of a script would become a value."""
    with pytest.raises(UsageError, match="--set"):
        read_values([said])
