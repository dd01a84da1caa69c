"""Sources keep their shards from run to run, whatever becomes of the file that says so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shardprep.cli.tables import fates
from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.raw import raw_state, write_raw_info
from shardprep.driver.run import run
from shardprep.errors import ShardError
from shardprep.packed.sets import open_set
from shardprep.recipe.model import RAW, Recipe
from shardprep.shards.set import read_info
from shardprep.shards.store import Store
from shardprep.sources.keys import source_key
from shardprep.sources.spec import SourceSpec
from shardprep.stages.drop_where import DropWhere
from tests.driver.made import Made
from tests.driver.outputs import files, make_sources, strays
from tests.fates import fates as found_fates
from tests.fates import make_files, run_over


def shards(recipe: Recipe) -> dict[str, list[str]]:
    """Return the numbers of the sources of each shard."""
    return {shard: [entry.path[1:4] for entry in entries] for shard, entries in raw_state(recipe, retry=False).entries.items()}


FIRST = {"000000": ["000", "001", "002", "003"], "000001": ["004", "005", "006", "007"], "000002": ["008", "009"]}


def test_a_source_keeps_its_shard(made: Made) -> None:
    assert shards(made.recipe()) == FIRST
    assert shards(made.recipe(samples_per_shard=1)) == FIRST, "the size of shards is for new sources"
    make_sources(made.videos, [500, 501])
    (made.videos / "v000.mp4").rename(made.videos / "u000.mp4")
    assert shards(made.recipe(samples_per_shard=2)) == {
        "000000": ["001", "002", "003"],
        "000001": FIRST["000001"],
        "000002": FIRST["000002"],
        "000003": ["000", "500"],
        "000004": ["501"],
    }


def test_nothing_is_known_of_a_new_output(made: Made, tmp_path: Path) -> None:
    fresh = replace(made.recipe(samples_per_shard=6), output=str(tmp_path / "fresh"))
    assert shards(fresh) == {"000000": ["000", "001", "002", "003", "004", "005"], "000001": ["006", "007", "008", "009"]}
    assert not (tmp_path / "fresh").exists(), "looking writes nothing"


@pytest.mark.parametrize("loss", ["assignment cut short", "assignment gone", "set.json gone", "both gone"])
def test_an_assignment_that_is_lost_is_read_from_the_ledgers(made: Made, loss: str) -> None:
    # Otherwise the next run would deal the sources anew and make every shard again.
    before = files(made.output / RAW)
    (assignment,) = (made.output / RAW).glob("assignment-*.parquet")
    if loss == "assignment cut short":
        assignment.write_bytes(assignment.read_bytes()[:-20])
    if loss in ("assignment gone", "both gone"):
        assignment.unlink()
    if loss in ("set.json gone", "both gone"):
        (made.output / RAW / "set.json").unlink()
    recipe = made.recipe(samples_per_shard=9)
    assert shards(recipe) == FIRST
    run(recipe, RunOptions(until=RAW))
    after = files(made.output / RAW)
    assert {name for name in before if name.startswith("0000") and after.get(name) != before[name]} == set()
    assert pq.read_table(assignment).to_pydict()["shard"] == ["000000"] * 4 + ["000001"] * 4 + ["000002"] * 2
    assert not plan(recipe).has_work
    assert strays(made.output) == []


def test_a_damaged_set_json_is_said_by_readers_and_mended_by_a_run(made: Made) -> None:
    for step in (RAW, "numbers", "train"):
        path = made.output / step / "set.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:30])
        with pytest.raises(ShardError, match=rf"{step}/set.json .*[Rr]un the recipe again"):
            open_set(str(made.output / step))
        summary = run(made.recipe())
        assert sum(step.worked_on for step in summary.steps) == 0
        assert path.read_bytes() == whole
    assert strays(made.output) == []


def test_an_assignment_of_an_earlier_listing_is_removed(made: Made) -> None:
    (made.output / RAW / "assignment-000000000000.parquet").write_bytes(b"what a killed run left")
    make_sources(made.videos, [10])
    raw = raw_state(made.recipe(), retry=False)
    write_raw_info(raw)
    names = [path.name for path in (made.output / RAW).glob("assignment-*")]
    assert names == [raw.state.info.assignment]
    assert read_info(Store(str(made.output / RAW))) == raw.state.info


def test_the_output_may_lie_among_the_sources(made: Made, tmp_path: Path) -> None:
    recipe = replace(made.recipe(), output=str(made.videos / "out"))
    run(recipe, RunOptions(until=RAW))
    assert shards(recipe) == FIRST
    assert not plan(replace(recipe, steps=())).has_work


def test_moving_the_sources_and_the_output_changes_nothing(made: Made, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    made.videos.rename(moved / "films")
    made.output.rename(moved / "made")
    recipe = replace(made.recipe(), source=SourceSpec(videos=str(moved / "films"), samples_per_shard=4), output=str(moved / "made"))
    before = files(moved / "made")
    assert not plan(recipe).has_work
    run(recipe)
    assert files(moved / "made") == before


def test_a_missing_source_of_a_list_is_the_same_failure_wherever_the_list_lies(tmp_path: Path) -> None:
    prints = []
    for name in ("here", "there"):
        folder = tmp_path / name
        make_sources(folder, [1])
        os.utime(folder / "v001.mp4", ns=(1, 1))
        (folder / "list.csv").write_text("path\nv001.mp4\nabsent.mp4\n")
        recipe = Recipe(
            name="r", source=SourceSpec(list=str(folder / "list.csv"), samples_per_shard=8), output=str(folder / "out"), steps=()
        )
        prints.append({shard: todo.fingerprint for shard, todo in raw_state(recipe, retry=False).state.todo.items()})
    assert prints[0] == prints[1]
    assert len(prints[0]) == 1


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_name_of_a_shard_that_lost_its_last_source_is_not_used_again(made: Made, is_lost: bool) -> None:
    for number in (8, 9):
        (made.videos / f"v{number:03d}.mp4").unlink()
    run(made.recipe(), RunOptions(until=RAW))
    assert list(shards(made.recipe())) == ["000000", "000001"]
    run(made.recipe(), RunOptions(until=RAW))
    make_sources(made.videos, [10])
    if is_lost:
        (made.output / RAW / "set.json").unlink()
    assert list(shards(made.recipe())) == ["000000", "000001", "000003"]


def test_two_paths_of_one_key_cost_their_own_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Four bits instead of 64: b and e collide.
    monkeypatch.setattr("shardprep.sources.keys.HASH_CHARS", 1)
    for name in ("a", "b", "e"):
        make_sources(tmp_path / "videos" / name, [1])
    assert source_key("b/v001.mp4") == source_key("e/v001.mp4")
    recipe = Recipe(name="r", source=SourceSpec(videos=str(tmp_path / "videos")), output=str(tmp_path / "out"), steps=())
    [raw] = run(recipe, RunOptions(max_failed=10)).steps
    assert (raw.samples_in, raw.samples_out, raw.failed) == (3, 1, {"key-collision": 2})
    details = {row["detail"] for row in fates(str(tmp_path / "out" / RAW), "failed").to_pylist()}
    assert details == {f"b/v001.mp4 and e/v001.mp4 have the same key {source_key('b/v001.mp4')}; rename one of the files"}


def test_a_damaged_caption_beside_a_name_that_is_no_utf8_fails_its_sample_alone(tmp_path: Path) -> None:
    sources = make_files(tmp_path / "in", 1)
    stem = os.fsdecode(os.fsencode(sources) + b"/\xff")
    Path(f"{stem}.mp4").write_bytes(b"a video")
    Path(f"{stem}.txt").write_bytes(b"a caption \xff")
    run_over(sources, tmp_path / "out", DropWhere(expression="source.bytes = 0"))
    good, failed = sorted(found_fates(tmp_path / "out", RAW).values(), key=lambda fate: fate.reason or "")
    assert (good.fate, failed.fate, failed.reason) == ("kept", "failed", "unreadable")
    assert r"in/\xff.txt is no UTF-8" in str(failed.detail)
