"""What a plan says: new, stale and why, damaged, to be retried, following; and that it writes nothing."""

from __future__ import annotations

import importlib.metadata as metadata
import json
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.core.fingerprint import digest
from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import RAW, Gather, Pass
from shardprep.shards.ledger import encode_ledger, read_ledger
from shardprep.shards.set import read_info, write_info
from shardprep.shards.store import Store
from tests.driver.made import Made
from tests.driver.outputs import current_packing, files, footer, ledgers
from tests.driver.recipes import counted, planned
from tests.driver.stages import CopyName, Number


def test_of_a_new_output_all_is_new_or_follows(made: Made, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    steps = planned(counted(made.videos, fresh))
    assert [(s.name, s.kind, s.done, s.new, s.stale, s.follows) for s in steps.values()] == [
        ("raw", "source", 0, 3, 0, 0),
        ("numbers", "pass", 0, 0, 0, 3),
        ("good", "select", 0, 0, 0, 3),
        ("features", "pass", 0, 0, 0, 3),
        ("train", "pack", 0, 0, 0, 1),
    ]
    assert steps["raw"].num_bytes == sum(path.stat().st_size for path in made.videos.iterdir())
    assert [s.reasons for s in steps.values()] == [()] * 5
    assert not fresh.exists()


def test_of_a_whole_output_all_is_done(made: Made) -> None:
    before = files(made.output)
    found = plan(made.recipe())
    assert not found.has_work
    assert [(s.done, s.new + s.stale + s.follows) for s in found.steps] == [(3, 0), (3, 0), (3, 0), (3, 0), (2, 0)]
    assert [s.reasons for s in found.steps] == [()] * 5
    tars = {path.parent.name: 0 for path in made.output.glob("*/set.json")}
    for path in made.output.rglob("*.tar"):
        tars[path.relative_to(made.output).parts[0]] += path.stat().st_size
    assert {s.name: s.num_bytes for s in found.steps if s.kind != "source"} == {n: b for n, b in tars.items() if n != RAW}
    assert files(made.output) == before


def test_the_time_that_a_step_takes_is_estimated_from_what_its_shards_took(made: Made) -> None:
    took = [sum(footer(path)["seconds"].values()) for path in ledgers(made.output / "features").values()]
    steps = planned(made.recipe(scale=2.0))
    assert steps["features"].seconds_estimate == pytest.approx(sum(took), rel=0.1, abs=0.01), "as many samples as before"
    assert planned(counted(made.videos, made.output / "new"))["features"].seconds_estimate is None


def test_stale_after_a_kill_says_that_settings_changed(made: Made) -> None:
    # `set.json` says what the killed run was about, so it no longer tells the old setting.
    recipe, changed = made.recipe(), made.recipe(length=2)
    assert made.killed_at("3#link features/0", "length=2")
    steps = planned(changed)
    assert 0 < steps["features"].stale < 3
    assert steps["features"].reasons == ("made with earlier settings, which a run that did not end began to replace",)
    steps = planned(recipe)
    assert steps["features"].reasons == ("costly.length changed from 2 to 4",), "the killed run's setting is the earlier one now"
    run(changed)
    assert not plan(changed).has_work


def test_a_step_whose_input_changed_names_it(made: Made) -> None:
    run(made.recipe(scale=2.0), RunOptions(until="numbers"))
    steps = planned(made.recipe(scale=2.0))
    assert steps["numbers"].done == 3
    assert (steps["good"].stale, steps["good"].reasons) == (3, ("numbers changed",))
    assert (steps["features"].follows, steps["features"].reasons) == (3, ())


def test_a_packed_set_says_what_of_it_changed(made: Made) -> None:
    assert planned(made.recipe(seed=1))["train"].reasons == ("pack.seed changed from 0 to 1",)
    run(made.recipe(where="scores.number >= 5"), RunOptions(until="features"))
    step = planned(made.recipe(where="scores.number >= 5"))["train"]
    assert (step.stale, step.reasons) == (2, ("what it packs changed",))


def test_a_step_that_reads_other_steps_than_before_names_them(made: Made, tmp_path: Path) -> None:
    names = Pass(name="names", stages=(CopyName(),))
    numbers, features, train = (step for step in made.recipe().steps if step.name != "good")
    long = replace(made.recipe(), output=str(tmp_path / "out"), steps=(numbers, names, features, train))
    short = replace(long, steps=(numbers, features, train))
    run(long)
    steps = planned(short)
    assert (steps["numbers"].stale, steps["features"].stale) == (0, 3)
    assert steps["features"].reasons == ("reads numbers, no longer names",)
    assert planned(replace(long, steps=(numbers, train)))["train"].reasons == ("reads numbers, no longer names, features",)
    # A run that was killed has described the set as it is to be.
    store = Store(f"{long.output}/features")
    info = read_info(store)
    assert info is not None
    write_info(store, replace(info, parents=("../raw", "../numbers")))
    assert planned(short)["features"].reasons == ("reads numbers, and was made from other steps",)
    run(short)
    assert not plan(short).has_work
    assert planned(long)["features"].reasons == ("reads names, which it did not read before",)


def test_a_packing_that_is_whole_is_only_to_count_again(made: Made) -> None:
    assert planned(made.recipe(seed=1))["train"].samples == 6
    run(made.recipe(seed=1))
    step = planned(made.recipe())["train"]
    assert (step.samples, step.bytes_estimate) == (0, 0)
    assert step.notes == ("it was packed before, and only comes to count again",)
    assert [one.shards_made for one in run(made.recipe()).steps] == [0] * 5
    assert not plan(made.recipe()).has_work


@pytest.mark.parametrize("name", ["index.parquet", "b000-000001.tar", "ledgers"])
def test_a_packed_set_that_lacks_a_file_is_not_done(made: Made, name: str) -> None:
    path = current_packing(made.output / "train") / name
    path = next(path.glob("b000-000001-*.parquet")) if name == "ledgers" else path
    path.unlink()
    step = planned(made.recipe())["train"]
    assert (step.done, step.new, step.reasons) == (0, 1, ("files of it are missing or damaged",))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"shards": 1}'])
def test_a_damaged_manifest_is_made_again(made: Made, content: bytes) -> None:
    before = (made.output / "train/manifest.json").read_bytes()
    (made.output / "train/manifest.json").write_bytes(content)
    summary = run(made.recipe())
    assert summary.steps[-1].shards_made == 0, "the tars are as they were"
    assert (made.output / "train/manifest.json").read_bytes() == before


def test_strict_compares_the_versions_of_libraries(made: Made) -> None:
    assert not plan(made.recipe(), strict=True).has_work
    store = Store(str(made.output / "numbers"))
    for path in list(ledgers(made.output / "numbers").values())[:2]:
        ledger = read_ledger(store.blob(path.name), path.name)
        versions = {**ledger.footer.versions, "av": "0.1", "gone": "1"}
        path.write_bytes(encode_ledger(replace(ledger, footer=replace(ledger.footer, versions=versions)), {"scores.number": "double"}))
    assert not plan(made.recipe()).has_work, "versions are told, and are no part of what a shard is"
    steps = {step.name: step for step in plan(made.recipe(), strict=True).steps}
    assert (steps["numbers"].done, steps["numbers"].stale) == (1, 2)
    assert steps["numbers"].reasons == (f"2 shards were made when av 0.1 is now {metadata.version('av')}",)
    assert [(s.stale, s.follows) for s in steps.values()] == [(0, 0), (2, 0), (0, 2), (0, 2), (0, 2)]


def test_a_step_may_not_write_over_a_set_of_another_kind(made: Made) -> None:
    recipe = made.recipe()
    packed = replace(recipe, steps=(Gather(name="numbers", does=Pack()),))
    with pytest.raises(RecipeError, match="numbers holds shards with ledgers, which this step would not replace; give the step another"):
        plan(packed)
    for step in (Pass(name="train", stages=(Number(),)), Gather(name="train", does=Select())):
        with pytest.raises(RecipeError, match="train holds a packed set"):
            plan(replace(recipe, steps=(step,)))
        before = files(made.output)
        with pytest.raises(RecipeError):
            run(replace(recipe, steps=(step,)))
        assert files(made.output) == before


def test_status_tells_what_is_missing_without_a_recipe(made: Made) -> None:
    assert [(s.name, s.kind, s.done, s.new) for s in status(str(made.output)).steps] == [
        ("raw", "source", 3, 0),
        ("numbers", "pass", 3, 0),
        ("good", "select", 3, 0),
        ("features", "pass", 3, 0),
        ("train", "pack", 2, 0),
    ]
    ledgers(made.output / "good")["000001"].unlink()
    (made.output / "train/manifest.json").unlink()
    found = {s.name: s for s in status(str(made.output)).steps}
    assert (found["good"].done, found["good"].new) == (2, 1)
    assert (found["train"].done, found["train"].new, found["train"].reasons) == (
        0,
        1,
        (f"{made.output}/train: there is no manifest.json: packing did not end. Run the recipe again",),
    )


def test_a_set_made_by_a_later_format_is_not_touched(made: Made) -> None:
    path = made.output / "numbers/set.json"
    later = {name: value for name, value in json.loads(path.read_text()).items() if name != "digest"} | {"format": 3, "more": 1}
    path.write_text(json.dumps(later | {"digest": digest(later)}))
    before = files(made.output)
    with pytest.raises(Exception, match="has format 3; this version of shardprep reads 2"):
        run(made.recipe())
    assert files(made.output) == before
