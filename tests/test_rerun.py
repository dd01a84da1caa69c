"""A second run makes only what is not up to date: counted, and compared byte for byte."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.probe_media import ProbeMedia
from shardprep.testing.videos import moving, three_shots, with_text
from tests.driver.made import Made, by_name, shards_made, worked_on
from tests.driver.outputs import (
    FINAL,
    changed,
    check_fates,
    current_packing,
    digests,
    files,
    ledgers,
    make_sources,
    shard_digests,
    strays,
    tar_members,
)
from tests.driver.recipes import counted, planned
from tests.driver.stages import LOG, Costly, Number, noted

# --- a setting changes


def test_a_changed_threshold_is_named_and_remakes_only_what_depends_on_it(made: Made) -> None:
    before = files(made.output)
    steps = planned(made.recipe(where="scores.number >= 2"))
    assert steps["good"].reasons == ("select.where changed from scores.number >= 4 to scores.number >= 2",)
    assert [(s.done, s.new, s.stale, s.follows) for s in steps.values()] == [
        (3, 0, 0, 0),
        (3, 0, 0, 0),
        (0, 0, 3, 0),
        (0, 0, 0, 3),
        (0, 0, 0, 2),
    ]
    assert files(made.output) == before, "a plan writes nothing"

    summary = run(made.recipe(where="scores.number >= 2"))
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 2}
    assert by_name(summary)["train"].samples_in == 8
    assert {name.split("/")[0] for name in changed(before, made.output) - {"raw/set.json"}} == {"good", "features", "train"}
    assert strays(made.output) == []


def test_a_loosened_selection_sends_only_the_new_clips_through_the_costly_stage(made: Made, tmp_path: Path) -> None:
    summary = run(made.recipe(where="scores.number >= 2"))
    assert [line[:11] for line in noted(made.log)] == ["costly v002", "costly v003", "open costly"]
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 2}
    fresh = tmp_path / "fresh"
    run(counted(made.videos, fresh, where="scores.number >= 2"))
    assert digests(made.output, *FINAL) == digests(fresh, *FINAL), "as if it had been so from the beginning"
    assert shard_digests(made.output) == shard_digests(fresh)


def test_a_tightened_selection_has_no_sample_worked_on(made: Made, tmp_path: Path) -> None:
    summary = run(made.recipe(where="scores.number >= 6"))
    assert [line for line in noted(made.log) if line != "open costly"] == []
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 0}
    assert by_name(summary)["train"].samples_in == 4
    fresh = tmp_path / "fresh"
    run(counted(made.videos, fresh, where="scores.number >= 6"))
    assert digests(made.output, *FINAL) == digests(fresh, *FINAL)


def test_without_reuse_all_is_worked_on(made: Made) -> None:
    summary = run(made.recipe(where="scores.number >= 5"), RunOptions(reuse=False))
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 3}, "the shard whose input changed, and all of it"


def test_a_measure_that_changes_without_effect_stales_nothing_below(made: Made) -> None:
    # The ledgers of `numbers` are made again, with the same rows: 2 and 2.0 are one number.
    before = files(made.output)
    assert not plan(made.recipe(scale=1)).has_work
    recipe = made.recipe()
    named = replace(recipe, steps=(Pass(name="numbers", stages=(Number(), Number(scale=1.0))), *recipe.steps[1:]))
    steps = planned(named)
    assert steps["numbers"].reasons == ("number (2) was added",)
    assert changed(before, made.output) == set()


def test_settings_that_come_back_are_made_again_to_the_same_bytes(made: Made) -> None:
    before, digests_before = digests(made.output, *FINAL), shard_digests(made.output)
    run(made.recipe(where="scores.number >= 7", scale=1.5))
    assert digests(made.output, *FINAL) != before
    assert strays(made.output) == []
    run(made.recipe())
    assert digests(made.output, *FINAL) == before
    assert shard_digests(made.output) == digests_before
    assert strays(made.output) == []


def test_a_plan_says_that_what_is_below_follows(made: Made) -> None:
    steps = planned(made.recipe(scale=2.0))
    assert steps["numbers"].reasons == ("number.scale changed from 1 to 2",)
    assert [(s.name, s.done, s.stale, s.follows) for s in steps.values()] == [
        ("raw", 3, 0, 0),
        ("numbers", 0, 3, 0),
        ("good", 0, 0, 3),
        ("features", 0, 0, 3),
        ("train", 0, 0, 2),
    ]


def test_what_does_not_change_bytes_stales_nothing(made: Made) -> None:
    recipe = made.recipe(samples_per_shard=2, workers=3, max_failed=5)
    settings = replace(recipe.settings, memory="3GiB", timeout_seconds=5.0)
    before = files(made.output)
    assert not plan(replace(recipe, name="another", settings=settings)).has_work
    run(replace(recipe, settings=settings))
    assert files(made.output) == before, "known sources keep their shards, whatever size new ones would get"


def test_threads_and_the_decoder_are_part_of_what_a_pass_is(made: Made) -> None:
    recipe = made.recipe()
    steps = planned(replace(recipe, settings=replace(recipe.settings, threads=2)))
    assert steps["numbers"].reasons == ("threads changed from 1 to 2",)
    assert steps["raw"].done == 3


# --- the source changes


def test_an_added_video_changes_no_shard_that_is_there(made: Made) -> None:
    before = files(made.output)
    make_sources(made.videos, [10])
    steps = planned(made.recipe())
    assert [(s.name, s.done, s.new, s.stale, s.follows) for s in steps.values()][:4] == [
        ("raw", 3, 1, 0, 0),
        ("numbers", 3, 0, 0, 1),
        ("good", 3, 0, 0, 1),
        ("features", 3, 0, 0, 1),
    ]
    summary = run(made.recipe())
    assert worked_on(summary) == {"raw": 1, "numbers": 1, "features": 1}
    shards = {name for name in before if not name.startswith("train/") and name.endswith((".tar", ".parquet")) and "assignment" not in name}
    assert not changed(before, made.output) & shards
    assert by_name(summary)["train"].samples_in == 7
    assert strays(made.output) == []


def test_a_removed_video_changes_only_its_shard_and_leaves_training(made: Made, tmp_path: Path) -> None:
    before = files(made.output)
    (made.videos / "v005.mp4").unlink()
    assert planned(made.recipe())["raw"].reasons == ("sources were added, removed or changed", "samples of the source: 1 removed")
    summary = run(made.recipe())
    assert shards_made(summary) == {"raw": 1, "numbers": 1, "good": 1, "features": 1, "train": 2}
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 0}
    sets = {name for name in changed(before, made.output) if not name.startswith("train/") and name.endswith((".tar", ".parquet"))}
    assert {name.split("/")[1][:7] for name in sets if "assignment" not in name} == {"000001-"}
    members = [name for tar in current_packing(made.output / "train").glob("*.tar") for name in tar_members(tar)]
    assert len(members) == 5 * 3
    assert not [name for name in members if name.startswith("v005")]
    assert strays(made.output) == []
    check_fates(made.output)


def test_a_changed_video_changes_only_its_shard_and_is_worked_on_alone(made: Made) -> None:
    before = files(made.output)
    (made.videos / "v005.mp4").write_bytes((made.videos / "v006.mp4").read_bytes())
    summary = run(made.recipe())
    assert worked_on(summary) == {"raw": 1, "numbers": 1, "features": 1}
    sets = {name for name in changed(before, made.output) if not name.startswith("train/") and name.endswith((".tar", ".parquet"))}
    assert {name.split("/")[1][:7] for name in sets if "assignment" not in name} == {"000001-"}


def test_a_touched_video_stales_nothing_below_raw(made: Made) -> None:
    before = shard_digests(made.output)
    os.utime(made.videos / "v005.mp4")
    summary = run(made.recipe())
    assert shards_made(summary) == {"raw": 1, "numbers": 0, "good": 0, "features": 0, "train": 0}
    assert shard_digests(made.output) == before


def test_a_shard_whose_sources_are_all_gone_goes(made: Made) -> None:
    for number in (8, 9):
        (made.videos / f"v{number:03d}.mp4").unlink()
    summary = run(made.recipe())
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 0}
    assert by_name(summary)["train"].samples_in == 4
    assert strays(made.output) == []
    check_fates(made.output)


# --- the same bytes


def test_fresh_folders_and_other_numbers_of_workers_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run(counted(made.videos, other, workers=3))
    assert digests(other, *FINAL) == digests(made.output, *FINAL)
    assert shard_digests(other) == shard_digests(made.output)
    assert len(digests(other, ".tar")) == 3 + 2 + 2


def real_work(videos: Path, output: Path, *, min_seconds: float = 1.2, workers: int = 1) -> Recipe:
    return Recipe(
        name="real",
        source=SourceSpec(videos=str(videos), samples_per_shard=2),
        output=str(output),
        settings=RunSettings(workers=workers),
        steps=(
            Pass(name="clips", stages=(ProbeMedia(), DetectScenes(), CutClips(min_seconds=min_seconds))),
            Pass(name="features", stages=(Costly(),)),
            Gather(name="train", does=Pack()),
        ),
    )


def test_a_changed_threshold_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    for name, data in {"three": three_shots(), "text": with_text(), "one": moving(30)}.items():
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(data)
    monkeypatch.setenv(LOG, str(tmp_path))
    run(real_work(tmp_path / "videos", tmp_path / "out"))
    assert len([line for line in noted(tmp_path) if line != "open costly"]) == 5, "the shot of 1 s is too short"
    recipe = real_work(tmp_path / "videos", tmp_path / "out", min_seconds=0.9, workers=2)
    steps = planned(recipe)
    assert steps["clips"].reasons == ("cut_clips.min_seconds changed from 1.2 to 0.9",)
    assert [(s.done, s.stale, s.follows) for s in steps.values()] == [(2, 0, 0), (0, 2, 0), (0, 0, 2), (0, 0, 2)]
    summary = run(recipe)
    assert worked_on(summary) == {"raw": 0, "clips": 3, "features": 1}
    assert shards_made(summary)["features"] == 1, "the other shard of clips came out as it was"
    assert len([line for line in noted(tmp_path) if line != "open costly"]) == 1
    run(replace(recipe, output=str(tmp_path / "fresh")))
    assert digests(tmp_path / "out", *FINAL) == digests(tmp_path / "fresh", *FINAL)


# --- retry


def test_retry_works_on_the_failures_alone(made: Made, tmp_path: Path) -> None:
    output = tmp_path / "failing"
    recipe = counted(made.videos, output)
    (made.log / "refuse").write_text("v004.mp4 v005.mp4 v009.mp4")
    failed = run(recipe)
    assert by_name(failed)["features"].failed == {"refused": 3}
    assert by_name(failed)["train"].samples_in == 3
    before = files(output)
    noted(made.log)

    assert shards_made(run(recipe)) == {"raw": 0, "numbers": 0, "good": 0, "features": 0, "train": 0}, "a run does not retry"
    assert planned(recipe, retry=True)["features"].reasons == ("2 shards with failures to retry",)
    (made.log / "refuse").write_text("v005.mp4")
    retried = run(recipe, RunOptions(retry=True))
    assert [line[:11] for line in noted(made.log)] == ["costly v004", "costly v005", "costly v009", "open costly"]
    assert worked_on(retried) == {"raw": 0, "numbers": 0, "features": 3}
    assert by_name(retried)["features"].failed == {"refused": 1}
    assert by_name(retried)["train"].samples_in == 5
    names = {shard: path.name for shard, path in ledgers(output / "features").items()}
    assert [name.endswith("-1.parquet") for _, name in sorted(names.items())] == [False, True, True]
    assert {name.split("/")[0] for name in changed(before, output)} == {"features", "train"}
    assert strays(output) == []

    (made.log / "refuse").unlink()
    again = run(recipe, RunOptions(retry=True))
    assert [line[:11] for line in noted(made.log)] == ["costly v005", "open costly"]
    assert worked_on(again)["features"] == 1
    assert ledgers(output / "features")["000001"].name.endswith("-2.parquet")
    assert strays(output) == []
    assert digests(output, *FINAL) == digests(made.output, *FINAL), "as if nothing had ever failed"
    assert shard_digests(output) == shard_digests(made.output)
    assert worked_on(run(recipe, RunOptions(retry=True))) == {"raw": 0, "numbers": 0, "features": 0}


def test_a_retry_sends_only_what_it_mended_further_down(made: Made, tmp_path: Path) -> None:
    recipe = counted(made.videos, tmp_path / "failing")
    deep = replace(recipe, steps=(Pass(name="early", stages=(Costly(),)), recipe.steps[0], Gather(name="train", does=Pack())))
    (made.log / "refuse").write_text("v006.mp4")
    run(deep)
    (made.log / "refuse").unlink()
    noted(made.log)
    summary = run(deep, RunOptions(retry=True))
    assert worked_on(summary) == {"raw": 0, "early": 1, "numbers": 1}
    assert [line[:11] for line in noted(made.log)] == ["costly v006", "number v006", "open costly"]


# --- branches


def test_two_selections_share_one_scored_set(made: Made) -> None:
    before = files(made.output)
    recipe = made.recipe()
    branched = replace(
        recipe,
        steps=(
            *recipe.steps,
            Gather(name="few", does=Select(where="scores.number >= 8"), from_="numbers"),
            Pass(name="few-features", stages=(Costly(length=8),)),
            Gather(name="train-few", does=Pack()),
        ),
    )
    summary = run(branched)
    assert worked_on(summary) == {"raw": 0, "numbers": 0, "features": 0, "few-features": 2}
    assert by_name(summary)["train-few"].samples_in == 2
    assert changed(before, made.output) <= {"raw/set.json"}, "the first branch stands as it was; raw notes the steps of the recipe"
    assert strays(made.output) == []
    check_fates(made.output)


def test_the_sets_of_steps_that_left_the_recipe_stay(made: Made) -> None:
    before = files(made.output)
    recipe = made.recipe()
    shorter = replace(recipe, steps=(recipe.steps[0], Gather(name="all", does=Pack())))
    run(shorter)
    assert changed(before, made.output) == {"raw/set.json"}, "which notes the steps of the recipe"
    assert not plan(recipe).has_work


def test_the_time_of_a_rerun_is_told(made: Made) -> None:
    started = time.monotonic()
    summary = run(made.recipe())
    assert sum(step.seconds for step in summary.steps) <= time.monotonic() - started
