"""What of a sample's record can be stored, and in which words it is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage
from shardprep.runtime.item import Item
from shardprep.runtime.rows import plain_record, result_of
from shardprep.shards.ledger import OutputRow


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (3, "double", 3.0),
        (np.float32(0.5), "double", 0.5),
        (np.int64(7), "int64", 7),
        (True, "bool", True),
        (np.array([1, 2]), "list<double>", [1.0, 2.0]),
        ((), "list<int64>", []),
        ("clip", "string", "clip"),
        (None, "double", None),
        ([1, 2.5], None, [1, 2.5]),
    ],
)
def test_values_of_their_declared_type_are_plain(value: Any, kind: str | None, stored: Any) -> None:
    types = {"scores.x": kind} if kind else {}
    found = plain_record({"scores": {"x": value}}, types)["scores"]["x"]
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("high", "double", "column scores.x is declared double and holds 'high'"),
        ([1.0], "double", "column scores.x is declared double and holds [1.0]"),
        (1.0, "list<double>", "column scores.x is declared list<double> and holds 1.0"),
        ([[1.0]], "list<double>", "column scores.x is declared double and holds [1.0]"),
        (1.5, "int64", "column scores.x is declared int64 and holds 1.5"),
        (1 << 63, "int64", "column scores.x is 9223372036854775808; records hold whole numbers of 64 bits"),
        (True, "int64", "column scores.x is declared int64 and holds True"),
        (np.bool_(False), "double", "column scores.x is declared double and holds False"),
        ([1, True], "list<int64>", "column scores.x is declared int64 and holds True"),
        (float("nan"), "double", "column scores.x is nan; records hold finite numbers only"),
        ("caf\udce9", "string", "column scores.x holds bytes that are no text: 'caf\\udce9'"),
        (object, None, "column scores.x holds a type; records hold text, numbers, booleans, lists and nothing else"),
        (b"raw", "string", "column scores.x holds a bytes; records hold text, numbers, booleans, lists and nothing else"),
    ],
)
def test_what_no_ledger_holds_is_refused(value: Any, kind: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        plain_record({"scores": {"x": value}}, {"scores.x": kind} if kind else {})


def test_a_column_has_a_group() -> None:
    with pytest.raises(ValueError, match="column 'flow' has no group; columns are named group.name, such as scores.flow"):
        plain_record({"flow": 1.0}, {})


@dataclass(frozen=True, kw_only=True)
class Adding:
    """What the rows of a step are made by; no more of a task is asked for."""

    adds: Mapping[str, str]
    is_base: bool
    joins: bool = False
    stages: tuple[Stage, ...] = ()
    chain: tuple[str, ...] = ("its input",)


def row_of(item: Item, adds: Mapping[str, str], *, is_base: bool) -> OutputRow:
    (outgoing,) = result_of(item.origin, [item], "d", Adding(adds=adds, is_base=is_base)).outgoing  # type: ignore[arg-type]
    return outgoing.row


def test_a_step_beside_its_base_stores_what_it_declares_and_no_absent_value() -> None:
    sample = Sample("a", {"source": {"name": "x"}, "scores": {"flow": 1.5, "luma": None, "other": 2}})
    adds = {"scores.flow": "double", "scores.luma": "double", "scores.absent": "double", "latent": "member"}
    assert row_of(Item("a", sample), adds, is_base=False).record == {"scores": {"flow": 1.5}}
    assert row_of(Item("a", sample), adds, is_base=True).record["scores"]["other"] == 2


@pytest.mark.parametrize("not_applicable", [False, True])
def test_a_sample_that_a_stage_passes_by_is_kept_and_says_which(not_applicable: bool) -> None:
    item = Item("a", Sample("a"), stage="only_pictures" if not_applicable else None, not_applicable=not_applicable)
    row = row_of(item, {}, is_base=False)
    assert (row.fate, row.stage, row.reason) == (("kept", "only_pictures", "not-applicable") if not_applicable else ("kept", None, None))


@dataclass(frozen=True, kw_only=True)
class First(Stage):
    """Declares two columns."""

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"mine.x": "int64", "mine.y": "string"}


@dataclass(frozen=True, kw_only=True)
class Then(Stage):
    """Replaces one of them."""

    splits = True

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"mine.y": "string"}


@pytest.mark.parametrize(
    ("stages", "record", "stage"),
    [
        ((First(), Then()), {"mine": {"x": "text", "y": "text"}}, "first"),
        ((First(), Then()), {"mine": {"x": 1, "y": 2}}, "then"),
        ((First(), Then()), {"mine": {"x": {"deep": float("nan")}}}, "first"),
        ((First(), Then()), {"other": {"z": float("nan")}}, "then"),
        ((First(),), {"other": {"z": float("nan")}}, "write"),
        ((), {"other": {"z": float("nan")}}, "write"),
    ],
)
def test_a_value_that_no_ledger_holds_is_the_fault_of_the_stage_that_wrote_its_column_last(
    stages: tuple[Stage, ...], record: Mapping[str, Any], stage: str
) -> None:
    adds = {name: kind for one in stages for name, kind in one.writes.items()}
    task = Adding(adds=adds, is_base=True, stages=stages)
    result = result_of("a", [Item("a", Sample("a", record), stage="passed_by", not_applicable=True)], "d", task)  # type: ignore[arg-type]
    assert (result.row.fate, result.row.reason, result.row.stage) == ("failed", "bad-record", stage)


def test_a_source_whose_record_cannot_be_stored_is_to_blame_itself() -> None:
    task = Adding(adds={}, is_base=True, chain=())
    result = result_of("a", [Item("a", Sample("a", {"list": {"z": float("nan")}}))], "d", task)  # type: ignore[arg-type]
    assert (result.row.fate, result.row.stage) == ("failed", "source")
