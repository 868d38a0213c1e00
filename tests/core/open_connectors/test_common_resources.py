"""Common resources: what is read of them, and which field fills which."""

from __future__ import annotations

import pytest

from service.core.open_connectors.common_resources import (
    ResourceMapping,
    check_name,
    fields_of_row,
    log_lost_by,
    map_sample,
    pair_fields,
    read_mappings,
    read_pairs,
    read_resources,
)
from service.errors import UsageError
from service.lab.sandbox.docs import ROW_FIELDS

LOG = list(ROW_FIELDS)


def test_definitions_and_mappings_are_read_by_name() -> None:
    """What somebody made in the platform's console would not be seen."""
    resources = read_resources(
        {
            "texts": {"fields": [{"path": "id", "type": "string"}, {"type": "x"}, 7]},
            "empty": {"fields": None},
            "level": "organization",
        }
    )
    (mapping,) = read_mappings(
        {
            "texts": {
                "vendorName": "messages",
                "fields": [{"path": "id", "vendorPath": "sid"}, {"path": "x", "vendorPath": None}],
            },
            "level": "instance",
        }
    )

    assert [(each.name, dict(each.fields)) for each in resources] == [
        ("empty", {}),
        ("texts", {"id": "string"}),
    ]
    assert (mapping.name, mapping.vendor, mapping.pairs) == ("texts", "messages", {"id": "sid"})
    assert read_resources([]) == []
    assert read_mappings(None) == []


def test_what_a_mapping_has_beside_its_fields_stays() -> None:
    """Changing a field would switch off what somebody configured in the console."""
    more = {"configuration": [{"type": "passThrough"}], "level": "instance"}
    mapping = ResourceMapping("texts", "messages", {"id": "sid"}, more)

    assert mapping.body == {
        "vendorName": "messages",
        "fields": [{"path": "id", "vendorPath": "sid"}],
        "configuration": [{"type": "passThrough"}],
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("dateSent", "date_sent"),
        ("From", "from"),
        ("message", "body"),
        ("text", "body"),
        ("recipient", "to"),
        ("id", "sid"),
        ("colour", ""),
    ],
)
def test_names_that_match_are_proposed(ours: str, theirs: str) -> None:
    """Twenty fields would have to be typed."""
    found = pair_fields([ours], {}, {}, LOG, propose=True)

    assert [(each.theirs, each.proposed) for each in found] == ([(theirs, True)] if theirs else [])
    assert pair_fields([ours], {}, {}, LOG, propose=False) == []


def test_what_is_said_goes_before_what_is_mapped_and_that_before_names() -> None:
    """A field that somebody chose would be overruled by a guess."""
    found = pair_fields(
        ["id", "text", "from", "gone"],
        {"text": "body", "gone": ""},
        {"id": "uri", "text": "status"},
        LOG,
        propose=True,
    )

    assert [(each.ours, each.theirs, each.proposed) for each in found] == [
        ("id", "uri", False),
        ("text", "body", False),
        ("from", "from", True),
    ]


def test_no_field_is_proposed_twice() -> None:
    """Two fields would show the same, and one of them wrongly."""
    found = pair_fields(["text", "message"], {}, {}, LOG, propose=True)

    assert [each.theirs for each in found] == ["body"]


@pytest.mark.parametrize("said", [["id"], ["=sid"], ["id=sid", "id=uri"]])
def test_fields_that_make_no_sense_are_refused(said: list[str]) -> None:
    """A mistyped option would map nothing, unnoticed."""
    with pytest.raises(UsageError, match="--field"):
        read_pairs(said)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "-x", "x" * 101, "a%2fb", "a?b"])
def test_a_name_that_could_leave_its_path_is_refused(name: str) -> None:
    """`map remove ../..` would delete something else."""
    with pytest.raises(UsageError):
        check_name(name)


def test_a_sample_is_mapped_with_objects_within() -> None:
    """What is shown before saving would not be what is answered after."""
    row = {"sid": "SM1", "more": {"uri": "/x"}}

    assert map_sample(row, {"id": "sid", "at": "more.uri", "no": "sid.x"}) == {
        "id": "SM1",
        "at": "/x",
        "no": None,
    }
    assert list(fields_of_row(row)) == ["sid", "more", "more.uri"]


@pytest.mark.parametrize(
    ("pairs", "lost"),
    [
        ({"id": "sid"}, '"from", "to", "direction", "body"'),
        ({name: name for name in LOG if name != "direction"}, 'without "direction"'),
        ({name: name for name in LOG}, ""),
        ({"sid": "sid", "From": "from", "To": "to", "Direction": "direction"}, 'without "body"'),
    ],
    ids=["an id alone", "no direction", "all", "no text"],
)
def test_open_connectors_fact_15_what_a_mapped_log_loses_is_said(
    pairs: dict[str, str], lost: str
) -> None:
    """Replies in doubt would be sent twice after somebody renamed a column."""
    assert lost in log_lost_by(pairs)
    assert bool(log_lost_by(pairs)) == bool(lost)
