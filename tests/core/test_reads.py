"""Reads: roles and columns told apart once, and found as SQL finds them."""

from __future__ import annotations

from typing import Any

import pytest

from shardprep.core.reads import Column, Role, field_named, narrowed, overlap, parse_read, value_of
from shardprep.core.sample import Sample
from shardprep.errors import RecipeError


def test_a_name_with_a_dot_is_a_column_and_one_without_a_role() -> None:
    assert parse_read("video") == Role("video")
    assert parse_read("scores.flow") == Column(("scores", "flow"))
    assert parse_read("scores.*") == Column(("scores",))
    assert parse_read(Column(("scores",))) == Column(("scores",))
    for name in ("video", "scores.flow", "scores.*", "a.b.c"):
        assert str(parse_read(name)) == name


def test_a_name_is_itself_or_the_only_one_equal_but_for_case() -> None:
    assert field_named(["Flow", "flow"], "flow") == "flow"
    assert field_named(["Flow"], "fLOW") == "Flow"
    assert field_named(["Flow"], "flo") is None
    assert field_named(["Ä"], "ä") is None, "as DuckDB, which knows the case of ASCII only"
    with pytest.raises(RecipeError, match=r"column scores\.FLOW may be scores\.Flow or scores\.flow; write the name exactly"):
        field_named(["flow", "Flow"], "FLOW", ("scores",))


def test_a_sample_gives_a_column_in_any_case() -> None:
    sample = Sample("k", {"Meta": {"Views": 3, "views": 4}, "scores": {"x": [1]}})
    assert [sample.get(name) for name in ("Meta.Views", "meta.views", "meta.no", "scores.x.y")] == [3, 4, None, None]
    assert value_of(sample.record, ("meta",)) == {"Views": 3, "views": 4}
    with pytest.raises(RecipeError, match=r"may be meta\.Views or meta\.views"):
        sample.get("meta.VIEWS")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([("meta", "views")], {"Meta": {"Views": 3, "views": 4}}),
        ([("META",)], {"Meta": {"Views": 3, "views": 4, "l": [1], "s": {"T": 5}}}),
        ([("meta", "S", "t", "u")], {"Meta": {"s": {"T": 5}}}),
        ([("meta", "l", "x")], {"Meta": {"l": [1]}}),
        ([("meta", "s"), ("meta", "s", "t")], {"Meta": {"s": {"T": 5}}}),
        ([("meta", "s", "no")], {"Meta": {"s": {}}}),
        ([("no", "x")], {}),
        ([("text",)], {"text": "x"}),
        ([("text", "inner")], {"text": "x"}),
    ],
)
def test_narrowed_holds_all_that_a_column_can_mean(columns: list[tuple[str, ...]], expected: dict[str, Any]) -> None:
    record = {"Meta": {"Views": 3, "views": 4, "l": [1], "s": {"T": 5}}, "text": "x", "other": {"a": 1}}
    assert narrowed(record, map(Column, columns)) == expected


def test_reads_overlap_where_one_lies_in_the_other() -> None:
    assert overlap(parse_read("scores.*"), parse_read("Scores.flow"))
    assert overlap(parse_read("scores.Flow"), parse_read("scores.flow"))
    assert not overlap(parse_read("scores.flow"), parse_read("scores.flows"))
    assert not overlap(parse_read("t5"), parse_read("t5.length"))
    assert overlap(parse_read("t5"), parse_read("t5"))
