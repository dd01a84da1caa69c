"""Reading sets as the join of what was made, added and decided: by key, with every digest checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from shardprep.core.blob import read_blob
from shardprep.errors import IncompleteSet, ShardError
from shardprep.expressions.query import filter as verdicts_of
from shardprep.packed.sets import fates_table
from shardprep.shards.join import chain_of, chain_table, open_view, read_chain
from shardprep.shards.ledger import encode_ledger, shard_digest
from shardprep.shards.set import ShardSet
from shardprep.shards.store import Store
from tests.built_sets import Made, chains_of, write_base, write_sidecar


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two shards of clips, scores on all but one, captions that replace one of the base's, a selection."""
    clips = {
        "000000": [
            Made("b", {"clip": {"index": 1}, "caption": {"text": "old b"}}, {"mp4": b"video b"}),
            Made("a", {"clip": {"index": 0}}, {"mp4": b"video a"}),
        ],
        "000001": [Made("c", {"clip": {"index": 2}}, {"mp4": b"video c"}), Made("d", {}, {"jpg": b"image d"})],
    }
    scores = {
        "000000": [Made("a", {"scores": {"flow": 1}}, {"latent.safetensors": b"latent a"}), Made("b", {"scores": {"flow": 2.5}})],
        "000001": [Made("d", {}), Made("c", dropped="too-still")],
    }
    captions = {
        "000000": [Made("b", {"caption": {"text": "new b"}}), Made("a", {"caption": {"text": "a"}})],
        "000001": [Made("d", {"caption": {"text": "d"}})],
    }
    good = {"000000": [Made("b"), Made("a", dropped="where")], "000001": [Made("d", dropped="unknown")]}
    first = write_base(tmp_path / "clips", clips)
    second = write_sidecar(tmp_path / "scores", scores, [first], {"scores.flow": "double", "latent": "member"})
    third = write_sidecar(tmp_path / "captions", captions, [first, second], {"caption.text": "string"})
    write_sidecar(tmp_path / "good", good, [first, second, third])
    return tmp_path


def records(url: Path) -> dict[str, Mapping[str, Any]]:
    return {sample.key: sample.record for sample in open_view(str(url))}


def test_a_chain_is_joined_by_key_in_the_order_of_the_base(output: Path) -> None:
    assert records(output / "captions") == {
        "b": {"clip": {"index": 1}, "caption": {"text": "new b"}, "scores": {"flow": 2.5}},
        "a": {"clip": {"index": 0}, "caption": {"text": "a"}, "scores": {"flow": 1.0}},
        "d": {"caption": {"text": "d"}},
    }
    assert list(records(output / "captions")) == ["b", "a", "d"]
    assert list(records(output / "scores")) == ["b", "a", "d"]
    assert list(records(output / "clips")) == ["b", "a", "c", "d"]
    assert list(records(output / "good")) == ["b"]


def test_members_come_from_where_they_were_made(output: Path) -> None:
    samples = {sample.key: sample for sample in open_view(str(output / "captions"))}
    found = {key: {role: read_blob(m.blob) for role, m in sample.members.items()} for key, sample in samples.items()}
    assert found == {"b": {"video": b"video b"}, "a": {"video": b"video a", "latent": b"latent a"}, "d": {"image": b"image d"}}


def test_the_table_says_what_the_samples_say(output: Path) -> None:
    for name in ("clips", "scores", "captions", "good"):
        view = open_view(str(output / name))
        rows = {row.pop("key"): row for row in view.table().to_pylist()}
        members = {key: row.pop("members") for key, row in rows.items()}
        assert {key: _plain(row) for key, row in rows.items()} == {sample.key: sample.record for sample in view}
        assert list(rows) == [sample.key for sample in view]
        suffixes = {sample.key: [member.suffix for member in sample.members.values()] for sample in view}
        assert {key: sorted(set(own) - {"json"}) for key, own in members.items()} == {key: sorted(own) for key, own in suffixes.items()}
    assert members == {"b": ["json", "mp4"]}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name: _plain(value) if isinstance(value, dict) else value for name, value in row.items()}
    return {name: value for name, value in inner.items() if value not in (None, {})}


def test_only_the_columns_asked_for_are_in_the_table(output: Path) -> None:
    table = open_view(str(output / "captions")).table(["SCORES.flow", "no.such"])
    assert table.schema == pa.schema([("key", pa.string()), ("scores", pa.struct([("flow", pa.float64())]))])
    assert verdicts_of(table, "scores.flow > 2") == [True, False, None]
    assert open_view(str(output / "captions")).table([]).column_names == ["key"]
    assert open_view(str(output / "scores")).table(["members"])["members"].to_pylist() == [
        ["json", "mp4"],
        ["json", "latent.safetensors", "mp4"],
        ["jpg", "json"],
    ]


def test_a_table_of_nothing(tmp_path: Path) -> None:
    write_base(tmp_path / "clips", {})
    assert open_view(str(tmp_path / "clips")).table().to_pydict() == {"key": [], "members": []}
    write_base(tmp_path / "empty", {"000000": []})
    assert open_view(str(tmp_path / "empty")).table().to_pydict() == {"key": [], "members": []}


def test_fates_are_those_of_the_sets_own_step(output: Path) -> None:
    rows = fates_table(str(output / "scores"))
    assert rows.column_names == ["step", "shard", "key", "role", "parent", "fate", "stage", "reason", "detail"]
    assert sorted((row["shard"], row["role"], row["key"], row["fate"]) for row in rows.to_pylist()) == [
        ("000000", "input", "a", "kept"),
        ("000000", "input", "b", "kept"),
        ("000000", "output", "a", "kept"),
        ("000000", "output", "b", "kept"),
        ("000001", "input", "c", "dropped"),
        ("000001", "input", "d", "kept"),
        ("000001", "output", "d", "kept"),
    ]
    dropped = {"step": "scores", "shard": "000001", "key": "c", "role": "input", "parent": None, "fate": "dropped", "stage": "stage"}
    assert fates_table(str(output / "scores"), fate="dropped").to_pylist() == [{**dropped, "reason": "too-still", "detail": "because"}]
    assert fates_table(str(output / "scores"), key="c").num_rows == 1
    assert fates_table(str(output / "scores"), fate="failed").num_rows == 0


# --- what does not belong together


def rewritten(folder: Path, shard: str, **changes: Any) -> None:
    """Replace a ledger by one with other rows and a right digest of its own."""
    shard_set = ShardSet.open(Store(str(folder)))
    name = shard_set.current()[shard].ledger
    ledger = replace(shard_set.ledger(name), **changes)
    footer = replace(ledger.footer, digest=shard_digest(ledger.inputs, ledger.outputs, ledger.footer.tar))
    (folder / name).write_bytes(encode_ledger(replace(ledger, footer=footer), {}))
    (folder / "digests.json").unlink(missing_ok=True)


def outputs_of(folder: Path, shard: str) -> Any:
    shard_set = open_view(str(folder)).sets[-1]
    return shard_set.ledger(shard_set.current()[shard].ledger).outputs


@pytest.mark.parametrize("read", [lambda view: list(view), lambda view: view.table()])
def test_a_set_above_one_that_was_changed_is_refused(output: Path, read: Any) -> None:
    row, *rest = outputs_of(output / "scores", "000000")
    rewritten(output / "scores", "000000", outputs=(replace(row, record={"scores": {"flow": 99.0}}), *rest))
    assert read(open_view(str(output / "scores"))), "the changed set itself is one, as far as a reader can see"
    with pytest.raises(ShardError, match=r"captions/000000-.*\.parquet was not made from scores/000000-"):
        read(open_view(str(output / "captions")))


@pytest.mark.parametrize("read", [read_chain, chain_table])
def test_a_ledger_that_is_not_the_expected_one_is_refused(output: Path, read: Any) -> None:
    chain = chains_of(output / "scores")["000000"]
    with pytest.raises(ShardError, match=r"scores/000000-.*\.parquet has the digest .*, not 000000; it was changed"):
        read((chain[0], replace(chain[1], digest="000000")))


@pytest.mark.parametrize("read", [lambda view: list(view), lambda view: view.table(["scores"])])
def test_a_key_that_the_base_lacks_is_refused(output: Path, read: Any) -> None:
    row, *rest = outputs_of(output / "captions", "000000")
    rewritten(output / "captions", "000000", outputs=(replace(row, key="stranger", parent="stranger"), *rest))
    with pytest.raises(ShardError, match=r"captions/000000-.* has the key 'stranger', which the sets before it, from clips on, lack"):
        read(open_view(str(output / "captions")))


def test_a_missing_shard_is_refused_unless_a_part_is_asked_for(output: Path) -> None:
    for path in (output / "scores").glob("000001-*.parquet"):
        path.unlink()
    with pytest.raises(IncompleteSet, match="scores: 1 of 2 shards is missing or out of date, first 000001 .no valid ledger."):
        open_view(str(output / "captions"))
    view = open_view(str(output / "captions"), partial=True)
    assert view.shards == ("000000",)
    assert [sample.key for sample in view] == ["b", "a"]
    assert view.table(["clip.index"])["key"].to_pylist() == ["b", "a"]


@pytest.mark.parametrize("read", [read_chain, chain_table])
def test_a_sidecar_of_an_old_base_is_refused_though_the_set_between_came_out_the_same(output: Path, read: Any) -> None:
    row, *rest = outputs_of(output / "clips", "000000")
    rewritten(output / "clips", "000000", outputs=(replace(row, record={"clip": {"index": 7}}), *rest))
    base = ShardSet.open(Store(str(output / "clips")))
    scores = ShardSet.open(Store(str(output / "scores")))
    footer = scores.ledger(scores.current()["000000"].ledger).footer
    now = replace(footer.inputs[0], digest=base.current()["000000"].digest)
    rewritten(output / "scores", "000000", footer=replace(footer, inputs=(now,)))
    assert len(list(open_view(str(output / "scores")))) == 3
    sets = [base, *(ShardSet.open(Store(str(output / name))) for name in ("scores", "captions"))]
    with pytest.raises(ShardError, match=r"captions/000000-.*\.parquet was not made from clips/000000-"):
        read(chain_of([(one, one.current()["000000"]) for one in sets]))
    with pytest.raises(IncompleteSet, match=r"captions/000000-.*\.parquet was not made from clips/000000-"):
        open_view(str(output / "captions"))


def test_members_without_a_tar_are_refused(output: Path) -> None:
    shard_set = open_view(str(output / "clips")).sets[-1]
    footer = shard_set.ledger(shard_set.current()["000000"].ledger).footer
    rewritten(output / "clips", "000000", footer=replace(footer, tar=None))
    with pytest.raises(ShardError, match="has members but the ledger names no tar"):
        list(open_view(str(output / "clips")))


def test_a_folder_that_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"is no shard set: it has no set\.json"):
        open_view(str(tmp_path))
