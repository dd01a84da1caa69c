"""Source names that would be one column are told apart, none keeps the plain name, and what reads that name is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.reads import fold
from shardprep.errors import RecipeError
from shardprep.sources.columns import typed_columns
from shardprep.sources.listing import list_source
from shardprep.sources.safe_names import NameClash, safe_names
from shardprep.sources.spec import SourceSpec


def with_digest(base: str, name: str, digits: int = 8) -> str:
    return f"{base}_{hashlib.sha256(name.encode()).hexdigest()[:digits]}"


def test_names_without_a_clash_are_cleaned_alone() -> None:
    names = ["a b", "", "ü", "Ü", "1", "x"]
    assert safe_names(names) == {"a b": "a_b", "": "column", "ü": "ü", "Ü": "Ü", "1": "1", "x": "x"}


def test_of_names_that_clash_none_keeps_the_plain_name() -> None:
    names = ["a b", "a.b", "a_b", "A_b", "c", "", "..."]
    expected = {
        name: with_digest(base, name) for name, base in zip(names, ["a_b", "a_b", "a_b", "A_b", "", "column", "column"], strict=True)
    }
    assert safe_names(names) == {**expected, "c": "c"}


def test_what_a_name_becomes_does_not_depend_on_which_others_it_clashes_with() -> None:
    assert safe_names(["lang", "Lang"])["lang"] == safe_names(["x", "LANG", "lang", "Lang"])["lang"] == with_digest("lang", "lang")


def test_a_name_that_has_the_digest_of_another_is_told_apart() -> None:
    natural = with_digest("id", "id")
    safe = safe_names(["id", "ID", natural])
    assert safe == {"id": with_digest("id", "id", 16), "ID": with_digest("ID", "ID"), natural: with_digest(natural, natural)}


@given(
    st.lists(
        st.sampled_from(["a", "A", "b c", "b_c", "B.c", with_digest("a", "a"), with_digest("A", "A")]) | st.text(max_size=3), unique=True
    )
)
def test_names_are_distinct_whatever_the_order(names: list[str]) -> None:
    safe = safe_names(names)
    assert safe == safe_names(names[::-1])
    assert len({fold(name) for name in safe.values()}) == len(names)
    assert all(name.replace("_", "a").isalnum() for name in safe.values())


def test_clashes_are_found_at_every_depth() -> None:
    found: list[NameClash] = []
    rows = typed_columns([{"in": {"id": 1}, "x": 5}, {"in": {"ID": 2}}], found.append)
    small, large = with_digest("id", "id"), with_digest("ID", "ID")
    assert rows == [{"in": {small: 1}, "x": 5}, {"in": {large: 2}}]
    assert found == [NameClash(("meta", "in", "id"), {"ID": large, "id": small})]
    assert str(found[0]) == f"the source has 'ID' and 'id', which are the columns meta.in.{large}, meta.in.{small}"


def list_with(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "list.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_a_clash_is_said_and_a_new_row_gives_no_other_row_its_name(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": "a.mp4", "lang": "en"}, {"path": "b.mp4", "Lang": "de"}]
    notes: list[str] = []
    entries = list_source(SourceSpec(list=list_with(tmp_path, rows)), say=notes.append)
    small, large = with_digest("lang", "lang"), with_digest("Lang", "Lang")
    assert [entry.record["meta"] for entry in entries] == [{small: "en"}, {large: "de"}]
    assert len(notes) == 1
    assert f"the source has 'Lang' and 'lang', which are the columns meta.{large}, meta.{small}" in notes[0]


def test_columns_of_the_recipe_settle_a_clash(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": "a.mp4", "lang": "en"}, {"path": "b.mp4", "Lang": "de"}]
    notes: list[str] = []
    spec = SourceSpec(list=list_with(tmp_path, rows), columns={"lang": "lang", "other": "Lang"})
    assert [entry.record["meta"] for entry in list_source(spec, say=notes.append)] == [{"lang": "en"}, {"other": "de"}]
    assert notes == []


def test_grouping_by_a_name_that_clashes_is_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": "a.mp4", "lang": "en", "Lang": "de"}]
    with pytest.raises(RecipeError, match=r"source\.group_by: meta\.lang is ambiguous: the source has 'Lang' and 'lang'"):
        list_source(SourceSpec(list=list_with(tmp_path, rows), group_by="lang"))
