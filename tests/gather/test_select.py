"""Select: three-valued logic, draws and limits that depend on nothing but seed and key, reasons for whatever goes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from shardprep.expressions import query, syntax
from shardprep.expressions.engine import QueryLimits
from shardprep.gather.select import Candidates, CandidatesTask, Cut, Decisions, Selection, SelectTask, choose, find_candidates, select_shard
from shardprep.gather.settings import Select
from shardprep.packed.sets import fates_table
from shardprep.runtime.task import ShardTask
from shardprep.shards.columns import record_columns
from shardprep.shards.join import open_view
from shardprep.shards.ledger import read_ledger
from shardprep.shards.set import SetInfo, ShardSet, write_info
from shardprep.shards.store import Store
from tests.built_sets import Made, chains_of, write_base


def table_of(rows: Mapping[str, Any]) -> pa.Table:
    return pa.table({"key": pa.array(list(rows), pa.string()), **record_columns(list(rows.values()), {})})


def decide(select: Select, table: pa.Table) -> Decisions:
    """Return the decisions on all samples of a set of one shard."""
    selection = Selection(select)
    rows = selection.candidates(table)
    cut = selection.cuts(rows.append_column("shardprep_shard", pa.array(["0"] * len(rows), pa.string())), ["0"])["0"]
    return selection.decide(table, cut if select.is_global else Cut())


def kept(select: Select, rows: Mapping[str, Any]) -> list[str]:
    return [key for key, dropped in decide(select, table_of(rows)).items() if dropped is None]


def reasons(select: Select, rows: Mapping[str, Any]) -> dict[str, str | None]:
    return {key: dropped and dropped.reason for key, dropped in decide(select, table_of(rows)).items()}


SCORES = {"a": {"scores": {"flow": 1.0, "x": 1}}, "b": {"scores": {"flow": 3.0}}, "c": {}, "d": {"scores": {"flow": 2.0, "x": 3}}}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("scores.flow > 1.5", {"a": "where", "b": None, "c": "unknown", "d": None}),
        ("NOT scores.flow > 1.5", {"a": None, "b": "where", "c": "unknown", "d": "where"}),
        ("scores.flow > 1.5 AND scores.x > 2", {"a": "where", "b": "unknown", "c": "unknown", "d": None}),
        ("scores.flow > 1.5 OR scores.x > 2", {"a": "where", "b": None, "c": "unknown", "d": None}),
        ("scores.x IS NULL", {"a": "where", "b": None, "c": None, "d": "where"}),
        ("coalesce(scores.x, 9) > 2", {"a": "where", "b": None, "c": None, "d": None}),
        ("scores.no_such_column > 1", dict.fromkeys("abcd", "unknown")),
        ("Scores.FLOW > 2.5", {"a": "where", "b": None, "c": "unknown", "d": "where"}),
        ("key IN ('a', 'c')", {"a": None, "b": "where", "c": None, "d": "where"}),
        ("true", dict.fromkeys("abcd")),
        ("NULL", dict.fromkeys("abcd", "unknown")),
    ],
)
def test_true_keeps_false_drops_and_null_is_unknown(where: str, expected: dict[str, str | None]) -> None:
    assert reasons(Select(where=where), SCORES) == expected


def test_every_decision_says_why() -> None:
    decisions = decide(Select(where="scores.flow > 1.5", sort="scores.flow DESC", limit=1), table_of(SCORES))
    assert decisions["b"] is None
    details = {key: (dropped.reason, dropped.detail) for key, dropped in decisions.items() if dropped}
    assert details == {
        "a": ("where", "scores.flow > 1.5"),
        "c": ("unknown", "'scores.flow > 1.5' is null: a column that it reads has no value"),
        "d": ("over-limit", "it comes after the first 1 by scores.flow DESC"),
    }
    drawn = decide(Select(sample=0.0, seed=3), table_of(SCORES))["a"]
    assert drawn is not None
    assert (drawn.reason, drawn.detail) == ("not-drawn", "the draw of 0 of the samples (seed 3) left it out")
    some = [dropped for dropped in decide(Select(sample=2), table_of(SCORES)).values() if dropped]
    assert [dropped.detail for dropped in some] == ["the draw of 2 samples (seed 0) left it out"] * 2


MANY = {f"k{n:03d}": {"scores": {"flow": n % 7, "other": None if n % 5 else n}} for n in range(200)}


def test_a_draw_of_a_number_takes_that_many() -> None:
    chosen = kept(Select(sample=50), MANY)
    assert len(chosen) == 50
    assert chosen != sorted(MANY)[:50]
    assert chosen == kept(Select(sample=50), MANY)
    assert chosen != kept(Select(sample=50, seed=1), MANY)
    assert set(kept(Select(sample=20), MANY)) < set(chosen), "a larger draw holds the smaller one"
    assert len(kept(Select(sample=1000), MANY)) == 200
    assert kept(Select(sample=0), MANY) == []


def test_a_draw_of_a_share_hangs_on_each_key_alone() -> None:
    chosen = set(kept(Select(sample=0.3), MANY))
    assert 40 < len(chosen) < 80
    part = {key: MANY[key] for key in sorted(MANY)[50:90]}
    assert set(kept(Select(sample=0.3), part)) == chosen & part.keys()
    assert not Select(sample=0.3).is_global
    assert set(kept(Select(sample=1.0), MANY)) == MANY.keys()


def test_a_draw_is_one_among_those_that_where_keeps() -> None:
    chosen = kept(Select(where="scores.flow = 3", sample=10), MANY)
    assert len(chosen) == 10
    assert all(MANY[key]["scores"]["flow"] == 3 for key in chosen)


@pytest.mark.parametrize(
    "sort", ["scores.flow DESC", "scores.flow, key DESC", "scores.other", "scores.flow * -1, scores.other DESC", "scores.no_such"]
)
def test_a_limit_takes_the_first_whatever_the_order_of_the_rows(sort: str) -> None:
    shuffled = list(MANY.items())
    random.Random(0).shuffle(shuffled)
    select = Select(sort=sort, limit=33)
    assert set(kept(select, dict(shuffled))) == set(kept(select, MANY))
    assert len(kept(select, MANY)) == 33


def test_ties_of_a_sort_go_by_key_and_nulls_come_last() -> None:
    assert kept(Select(sort="scores.flow DESC", limit=3), MANY) == ["k006", "k013", "k020"]
    assert kept(Select(sort="scores.other DESC", limit=2), MANY) == ["k190", "k195"]
    assert kept(Select(sort="scores.flow", limit=2), {"b": {}, "a": {}, "c": {"scores": {"flow": 1}}}) == ["a", "c"]
    assert kept(Select(limit=2), MANY) == ["k000", "k001"]
    assert kept(Select(limit=0), MANY) == []


def test_only_the_columns_that_are_named_are_read() -> None:
    select = Select(where="scores.flow > 1 AND len(meta.tags) > 0", sort="scores.aesthetic DESC, clip.index")
    assert Selection(select).columns == ("scores.flow", "meta.tags", "scores.aesthetic", "clip.index")


# --- over shards


@pytest.fixture
def clips(tmp_path: Path) -> ShardSet:
    """Forty clips in four shards; in the last nobody has a score."""
    made = [Made(f"k{n:02d}", {"scores": {"flow": n % 10}} if n < 30 else {}) for n in range(40)]
    return write_base(tmp_path / "clips", {f"{s:06d}": made[s * 10 : s * 10 + 10] for s in range(4)})


def run_select(folder: Path, clips: ShardSet, select: Select, order: Sequence[int] = range(4)) -> Path:
    """Write the selection beside the clips, its shards in some order, and return its folder."""
    chains = chains_of(Path(clips.store.url))
    info = SetInfo(step=folder.name, kind="sidecar", step_fingerprint="e" * 64, identity={}, parents=("../clips",), shards=tuple(chains))
    write_info(Store(str(folder)), info)
    tasks = []
    for place in order:
        shard = list(chains)[place]
        tasks.append(
            ShardTask(
                step=folder.name,
                shard=shard,
                out_url=str(folder),
                fingerprint=str(place) * 64,
                step_fingerprint="e" * 64,
                stages=(),
                is_base=False,
                adds={},
                reads=(),
                chain=chains[shard],
            )
        )
    wanted = [CandidatesTask(step=folder.name, shard=shard, select=select, chain=chain) for shard, chain in chains.items()]
    cuts = choose(select, map(find_candidates, wanted)) if select.is_global else {}
    made = [SelectTask(step=task.step, shard=task.shard, select=select, task=task, cut=cuts.get(task.shard, Cut())) for task in tasks]
    results = [select_shard(one) for one in made]
    assert [result.worked_on for result in results] == [10] * len(tasks)
    return folder


def test_an_expression_is_parsed_once_for_all_shards(tmp_path: Path, clips: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    # To parse it for each shard, or to make a database, would take longer than all the rest of a selection.
    parsed: list[str] = []
    connected: list[QueryLimits] = []

    def parse_expression(connection: Any, expression: str) -> Any:
        parsed.append(expression)
        return syntax.parse_expression(connection, expression)

    monkeypatch.setattr(query, "parse_expression", parse_expression)
    monkeypatch.setattr(query, "connect", connected.append)
    run_select(tmp_path / "good", clips, Select(where="scores.flow >= 8"))
    assert (len(clips.info.shards), parsed, connected) == (4, ["scores.flow >= 8"], [])


def test_a_selection_holds_ledgers_and_no_tars(tmp_path: Path, clips: ShardSet) -> None:
    good = run_select(tmp_path / "good", clips, Select(where="scores.flow >= 8"))
    assert [sample.key for sample in open_view(str(good))] == ["k08", "k09", "k18", "k19", "k28", "k29"]
    assert not list(good.glob("*.tar"))
    counts = [(row["fate"], row["reason"]) for row in fates_table(str(good)).to_pylist() if row["role"] == "input"]
    assert {one: counts.count(one) for one in counts} == {("kept", None): 6, ("dropped", "where"): 24, ("dropped", "unknown"): 10}
    (ledger,) = good.glob("000000-*.parquet")
    row = read_ledger(Store(str(good)).blob(ledger.name), "x").inputs[0]
    assert (row.key, row.fate, row.stage, row.reason, row.detail) == ("k00", "dropped", "select", "where", "scores.flow >= 8")


@pytest.mark.parametrize(
    "select",
    [Select(limit=7, sort="scores.flow DESC"), Select(sample=9), Select(sample=0.4), Select(where="scores.flow > 2", sample=5, limit=3)],
)
def test_the_same_is_selected_in_whatever_order_shards_are_made(tmp_path: Path, clips: ShardSet, select: Select) -> None:
    one, other = run_select(tmp_path / "one", clips, select), run_select(tmp_path / "other", clips, select, order=(3, 1, 0, 2))
    keys = [sample.key for sample in open_view(str(one))]
    assert keys == [sample.key for sample in open_view(str(other))]
    assert keys
    whole = open_view(clips.store.url).table()
    assert set(keys) == {key for key, dropped in decide(select, whole).items() if dropped is None}


@pytest.mark.parametrize("select", [Select(limit=7, sort="scores.flow DESC"), Select(sample=9), Select(sample=9, limit=3), Select(limit=5)])
def test_candidates_that_are_thinned_on_the_way_give_the_same(select: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    selection = Selection(select)
    parts = {f"{n:06d}": dict(list(MANY.items())[n * 20 : n * 20 + 20]) for n in range(10)}
    found = [Candidates(shard, selection.candidates(table_of(rows))) for shard, rows in parts.items()]
    assert max(len(one.rows) for one in found) <= (select.sample or select.limit or 0), "a shard gives no more than could be kept"
    at_once = choose(select, found)
    monkeypatch.setattr("shardprep.gather.select._MERGED_AT", 0)
    assert choose(select, reversed(found)) == at_once
    chosen = [
        key for shard, rows in parts.items() for key, dropped in selection.decide(table_of(rows), at_once[shard]).items() if dropped is None
    ]
    assert sorted(chosen) == sorted(kept(select, MANY))
