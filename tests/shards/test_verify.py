"""Verify finds whatever is not as it was written: every flipped byte, every cut, every file too many or too few."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprep.errors import ShardError
from shardprep.shards.counts import count_rows
from shardprep.shards.join import open_view
from shardprep.shards.ledger import InputRow, Ledger, OutputRow, encode_ledger, shard_digest
from shardprep.shards.names import ledger_name
from shardprep.shards.sealed import read_sealed, write_sealed
from shardprep.shards.set import ShardSet, write_info
from shardprep.shards.store import Store
from shardprep.shards.tar import Placed
from shardprep.shards.verify import verify_ledger, verify_set
from tests.built_sets import Made, write_base, write_sidecar


@pytest.fixture
def output(tmp_path: Path) -> Path:
    clips = {
        "000000": [Made("a", {"clip": {"index": 0, "fps": 25.0}}, {"mp4": b"video a"}), Made("b", {"x": {"y": [1.5]}}, {"mp4": b"b"})],
        "000001": [Made("c", {}, {"mp4": b"video c"}), Made("short", dropped="too-short")],
    }
    first = write_base(tmp_path / "clips", clips)
    scores = {"000000": [Made("a", {"scores": {"flow": 1.0}}), Made("b")], "000001": [Made("c")]}
    write_sidecar(tmp_path / "scores", scores, [first], {"scores.flow": "double"})
    return tmp_path


def problems(folder: Path) -> list[str]:
    return [f"{Path(problem.where).name}: {problem.what}" for problem in verify_set(str(folder))]


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_good_set_is_clean(output: Path) -> None:
    assert problems(output / "clips") == []
    assert problems(output / "scores") == []


def test_every_flipped_byte_of_a_tar_is_found(output: Path) -> None:
    tar = only(output / "clips", "000001-*.tar")
    data = tar.read_bytes()
    store, ledger = Store(str(output / "clips")), read(output / "clips", "000001")
    name = only(output / "clips", "000001-*.parquet").name
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 0x20
        tar.write_bytes(flipped)
        found = next(verify_ledger(store, ledger, "shard", name))
        assert found.what == "its bytes do not have the sha256 that its ledger says", place
    assert f"{tar.name}: its bytes do not have the sha256 that its ledger says" in problems(output / "clips")
    tar.write_bytes(data)
    assert problems(output / "clips") == []


def test_every_cut_of_a_tar_is_found(output: Path) -> None:
    tar = only(output / "clips", "000000-*.tar")
    data = tar.read_bytes()
    for end in [*range(0, len(data), 512), len(data) - 1]:
        tar.write_bytes(data[:end])
        # As after a run, and to somebody who has no cache of what the tar was like.
        assert problems(output / "clips"), end


def test_flipped_bytes_of_a_ledger_are_found(output: Path) -> None:
    """Here some; tests of the ledger flip every byte, and no reader gets past one."""
    path = only(output / "scores", "000001-*.parquet")
    data = path.read_bytes()
    for place in range(0, len(data), 41):
        flipped = bytearray(data)
        flipped[place] ^= 0x08
        path.write_bytes(flipped)
        assert problems(output / "scores"), place
    path.write_bytes(data)
    assert problems(output / "scores") == []


def test_every_cut_of_a_ledger_is_found(output: Path) -> None:
    path = only(output / "scores", "000001-*.parquet")
    data = path.read_bytes()
    for end in [*range(0, len(data), 512), *range(len(data) - 20, len(data))]:
        path.write_bytes(data[:end])
        assert problems(output / "scores"), end


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", b"x"), ("000007-0123456789ab.tar", b""), ("sub/dir/file", b"x"), ("000000-01234567.parquet.bak", b"")],
)
def test_a_file_too_many_is_found(output: Path, name: str, content: bytes) -> None:
    path = output / "clips" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert problems(output / "clips") == [f"{path.name}: no shard of the set needs this file"]


def test_a_superseded_ledger_is_found(output: Path) -> None:
    """Another ledger of the shard, of a step with other settings."""
    ledger = read(output / "scores", "000001")
    old = replace(ledger.footer, fingerprint="0" * 64, step_fingerprint="1" * 64)
    (output / "scores" / "000001-00000000.parquet").write_bytes(encode_ledger(replace(ledger, footer=old), {}))
    assert problems(output / "scores") == ["000001-00000000.parquet: no shard of the set needs this file"]


def test_a_missing_tar_is_found(output: Path) -> None:
    only(output / "clips", "000001-*.tar").unlink()
    assert any("its tar 000001-" in what and "is missing" in what for what in problems(output / "clips"))


def test_a_missing_ledger_is_found(output: Path) -> None:
    only(output / "clips", "000001-*.parquet").unlink()
    assert "000001: no valid ledger" in problems(output / "clips")
    assert len(problems(output / "clips")) == 1, "the tar that its ledger named is told with it: the next run looks at it first"
    assert any(
        what.startswith("000001: scores/000001-") and "was not made from clips/000001" in what for what in problems(output / "scores")
    )


def test_a_set_that_lists_fewer_shards_than_its_parent_is_found(output: Path) -> None:
    store = Store(str(output / "scores"))
    write_info(store, replace(ShardSet.open(store).info, shards=("000000",)))
    assert "000001: what it was made from has this shard, set.json does not list it" in problems(output / "scores")


def test_a_missing_parent_is_found(output: Path) -> None:
    shutil.rmtree(output / "clips")
    assert any("cannot be read without" in what and "clips, which is gone" in what for what in problems(output / "scores"))


@pytest.mark.parametrize("parents", [("../clips",), ("../clips", "../scores", "../scores")], ids=["fewer", "more"])
def test_ledgers_that_were_made_from_fewer_or_more_sets_than_are_named_do_not_count(output: Path, parents: tuple[str, ...]) -> None:
    below = [ShardSet.open(Store(str(output / name))) for name in ("clips", "scores")]
    both = write_sidecar(output / "both", {"000000": [Made("a"), Made("b")], "000001": [Made("c")]}, below)
    assert problems(output / "both") == []
    write_info(both.store, replace(both.info, parents=parents))
    words = f"was not made from the {len(parents)} sets that set.json names"
    assert sum(words in what for what in problems(output / "both")) == 2
    with pytest.raises(ShardError, match=words):
        open_view(str(output / "both")).chain("000000")


def test_a_parent_that_was_made_anew_is_found(output: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other" / "clips", {"000000": [Made("a", {"x": {"y": 2}}), Made("b")], "000001": [Made("c")]})
    shutil.rmtree(output / "clips")
    shutil.copytree(other.store.url, output / "clips")
    assert len([what for what in problems(output / "scores") if "was not made from clips/" in what]) == 2


def test_an_input_sample_without_a_row_is_found(output: Path) -> None:
    ledger = read(output / "scores", "000000")
    rewrite(output / "scores", "000000", replace(ledger, inputs=ledger.inputs[1:], outputs=ledger.outputs[1:]))
    (what,) = problems(output / "scores")
    assert "its input rows are not the samples of its input shard" in what


def read(folder: Path, shard: str) -> Ledger:
    return ShardSet.open(Store(str(folder))).ledger(only(folder, f"{shard}-*.parquet").name)


def rewrite(folder: Path, shard: str, ledger: Ledger, **footer: Any) -> None:
    """Put a ledger in the place of another, its digest and counts right unless told otherwise."""
    name = ledger_name(shard, ledger.footer.fingerprint)
    counts = count_rows(ledger.inputs, ledger.outputs)
    right: Mapping[str, Any] = {"digest": shard_digest(ledger.inputs, ledger.outputs, ledger.footer.tar), "counts": counts}
    (folder / str(name)).write_bytes(encode_ledger(replace(ledger, footer=replace(ledger.footer, **{**right, **footer})), {}))


A = InputRow(key="a", fate="kept", into=("a",))
OUT_A = OutputRow(key="a", parent="a", fate="kept")


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ((A, A), (OUT_A,), "a key has two input rows"),
        ((A,), (OUT_A, OUT_A), "a key has two output rows"),
        ((A,), (), "a went into a, which no row keeps"),
        ((A,), (replace(OUT_A, fate="failed", stage="s", reason="r"),), "a went into a, which no row keeps"),
        ((replace(A, into=()),), (), "a is kept and went into 0 samples"),
        ((replace(A, fate="dropped", reason="r"),), (OUT_A,), "a is dropped and went into 1 sample"),
        ((A,), (OUT_A, replace(OUT_A, key="z")), "z came out of a, but no input row says so"),
        ((A,), (OUT_A, replace(OUT_A, key="z", parent="y", fate="failed", reason="r")), "z came out of y, but no input row says so"),
        ((A,), (replace(OUT_A, members=(Placed("mp4", 512, 1, 0, "0" * 32),)),), "rows have members, but there is no tar"),
    ],
)
def test_rows_that_contradict_each_other_are_found(tmp_path: Path, inputs: Any, outputs: Any, words: str) -> None:
    write_base(tmp_path / "set", {"000000": [Made("a")]})
    for path in (tmp_path / "set").glob("*.tar"):
        path.unlink()
    ledger = read(tmp_path / "set", "000000")
    rewrite(tmp_path / "set", "000000", Ledger(inputs, outputs, replace(ledger.footer, tar=None)))
    assert any(words in what for what in problems(tmp_path / "set"))


def test_wrong_counts_and_digests_are_found(output: Path) -> None:
    ledger = read(output / "scores", "000000")
    rewrite(output / "scores", "000000", ledger, counts={"input.kept": 3})
    assert any("its rows are not as many as its footer says" in what for what in problems(output / "scores"))
    rewrite(output / "scores", "000000", ledger, digest="0" * 64)
    assert any("its rows do not have the digest that its footer says" in what for what in problems(output / "scores"))
    rewrite(output / "scores", "000000", ledger)
    assert problems(output / "scores") == []


def test_a_ledger_of_another_shard_under_this_ones_name_is_found(output: Path) -> None:
    one, other = only(output / "scores", "000000-*.parquet"), only(output / "scores", "000001-*.parquet")
    shutil.copy(one, other)
    assert any(what.startswith("000001: ") and "is the ledger with the fingerprint" in what for what in problems(output / "scores"))


def test_a_record_in_the_tar_that_is_not_the_ledgers_is_found(output: Path) -> None:
    ledger = read(output / "clips", "000000")
    row, *rest = ledger.outputs
    rewrite(output / "clips", "000000", replace(ledger, outputs=(replace(row, record={"clip": {"index": 5, "fps": 25.0}}), *rest)))
    assert any("a.json does not say what the ledger's columns say" in what for what in problems(output / "clips"))


def test_members_that_the_ledger_places_elsewhere_or_not_at_all_are_found(output: Path) -> None:
    ledger = read(output / "clips", "000000")
    row, other = ledger.outputs
    moved = replace(row.members[1], offset=row.members[1].offset + 512)
    wrong = replace(other.members[1], crc32=other.members[1].crc32 ^ 1)
    outputs = (replace(row, members=(row.members[0], moved)), replace(other, members=(wrong,)))
    rewrite(output / "clips", "000000", replace(ledger, outputs=outputs))
    found = " ".join(problems(output / "clips"))
    assert "member a.mp4 does not lie where the ledger says" in found
    assert "member b.mp4 does not have its crc32" in found
    assert "member b.json is in the tar but not in the ledger" in found


def test_a_cache_that_says_something_else_is_found(output: Path) -> None:
    shard_set = open_view(str(output / "scores")).sets[-1]
    shard_set.current()
    shard_set.save_digests()
    assert problems(output / "scores") == []
    known = read_sealed(shard_set.store, "digests.json", "", dict) or {}
    for entry in known["ledgers"].values():
        entry["digest"] = "0" * 64
    write_sealed(shard_set.store, "digests.json", known)
    assert any("digests.json says something else of it than its footer" in what for what in problems(output / "scores"))
