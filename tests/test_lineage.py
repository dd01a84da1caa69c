"""Every link of a set to what it was made from is checked, by digest: readers, `status`, `plan` and `verify` say the same of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.errors import IncompleteSet
from shardprep.gather.settings import Pack, Select
from shardprep.packed.sets import fates_table
from shardprep.recipe.model import RAW, Gather, Pass, Recipe, RunSettings
from shardprep.shards.join import open_view
from shardprep.sources.spec import SourceSpec
from tests.driver.agreement import check_agreement, reads
from tests.driver.made import Made
from tests.driver.outputs import files, footer, ledgers, make_sources, shard_digests
from tests.driver.stages import Costly, Halve, Number

SETS = ("clips", "scores", "tails", "good")


def halved(videos: Path, output: Path, *, scores: str = "scores", select: Select | None = None, length: int = 4) -> Recipe:
    """A base set of two copies of every video, two sidecars, a selection, packed."""
    return Recipe(
        name="halved",
        source=SourceSpec(videos=str(videos), samples_per_shard=4),
        output=str(output),
        settings=RunSettings(workers=1),
        steps=(
            Pass(name="clips", stages=(Halve(),)),
            Pass(name=scores, stages=(Number(),)),
            Pass(name="tails", stages=(Costly(length=length),)),
            Gather(name="good", does=select or Select(where="scores.number >= 0")),
            Gather(name="train", does=Pack(samples_per_shard=6)),
        ),
    )


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Ten videos in three shards, cut in two, scored, packed."""
    made = Made(tmp_path_factory.mktemp("once"))
    make_sources(made.videos, range(10))
    made.log.mkdir()
    run(halved(made.videos, made.output))
    return made


@pytest.fixture
def out(once: Made, tmp_path: Path) -> Made:
    return once.copy(tmp_path)


def replace_source(out: Made, number: int) -> None:
    """Put another video in the place of one."""
    make_sources(out.folder / "other", [number + 500])
    (out.folder / f"other/v{number + 500}.mp4").replace(out.videos / f"v{number:03d}.mp4")


def test_a_whole_output_is_whole_to_everybody(out: Made) -> None:
    assert check_agreement(out.output, halved(out.videos, out.output)) == {"raw": 3, **dict.fromkeys(SETS, 3)}
    assert len(reads(out.output / "good") or []) == 20


def test_a_base_set_whose_source_changed_is_not_shown(out: Made) -> None:
    recipe = halved(out.videos, out.output)
    replace_source(out, 5)
    run(recipe, RunOptions(until=RAW))
    assert check_agreement(out.output, recipe) == {"raw": 3, **dict.fromkeys(SETS, 2)}
    with pytest.raises(
        IncompleteSet, match=r"clips: 1 of 3 shards is missing or out of date, first 000001 \(.* was not made from raw/000001"
    ):
        open_view(str(out.output / "clips"))
    for name in SETS:
        partial = [sample.record["source"]["name"] for sample in open_view(str(out.output / name), partial=True)]
        assert len(partial) == 12
        assert "v005.mp4" not in partial
        assert set(fates_table(str(out.output / name))["shard"].to_pylist()) == {"000000", "000002"}
    run(recipe)
    assert check_agreement(out.output, recipe) == {"raw": 3, **dict.fromkeys(SETS, 3)}


@pytest.mark.parametrize("step", ["clips", "scores"])
def test_a_run_that_stops_between_two_steps_leaves_what_everybody_calls_unfinished(out: Made, step: str) -> None:
    recipe = halved(out.videos, out.output)
    replace_source(out, 5)
    run(recipe, RunOptions(until=step))
    below = SETS[SETS.index(step) + 1 :]
    assert check_agreement(out.output, recipe) == {"raw": 3, **dict.fromkeys(SETS, 3), **dict.fromkeys(below, 2)}


def test_a_source_set_whose_sources_changed_is_not_shown_either(out: Made) -> None:
    """As a kill leaves it between `set.json` and the first ledger."""
    from shardprep.driver.raw import raw_state, write_raw_info

    recipe = halved(out.videos, out.output)
    replace_source(out, 5)
    write_raw_info(raw_state(recipe, retry=False))
    assert check_agreement(out.output, recipe) == {"raw": 2, **dict.fromkeys(SETS, 2)}


def test_a_run_of_another_selection_leaves_what_is_below_out_of_date(out: Made) -> None:
    recipe = replace(halved(out.videos, out.output, select=Select(where="scores.number >= 5")))
    below = replace(recipe, steps=(*recipe.steps[:4], Pass(name="more", stages=(Costly(length=1),)), recipe.steps[4]))
    longer = replace(below, steps=(*recipe.steps[:3], Gather(name="good", does=Select()), *below.steps[4:]))
    run(longer)
    assert check_agreement(out.output, longer) == {"raw": 3, **dict.fromkeys(SETS, 3), "more": 3}
    run(below, RunOptions(until="good"))
    assert check_agreement(out.output, below) == {"raw": 3, **dict.fromkeys(SETS, 3), "more": 1}, (
        "the selection of the last shard is the same"
    )


def test_sources_that_were_added_are_missing_below(out: Made) -> None:
    recipe = halved(out.videos, out.output)
    make_sources(out.videos, [20, 21])
    run(recipe, RunOptions(until=RAW))
    assert check_agreement(out.output, recipe) == {"raw": 4, **dict.fromkeys(SETS, 3)}


def test_a_selection_over_all_is_out_of_date_where_any_shard_changed(out: Made) -> None:
    recipe = halved(out.videos, out.output, select=Select(sort="scores.number DESC", limit=7))
    run(recipe)
    assert check_agreement(out.output, recipe) == {"raw": 3, **dict.fromkeys(SETS, 3)}
    replace_source(out, 5)
    run(recipe, RunOptions(until="tails"))
    assert check_agreement(out.output, recipe) == {"raw": 3, "clips": 3, "scores": 3, "tails": 3, "good": 0}


@pytest.mark.parametrize("damage", ["ledger-gone", "ledger-cut", "tar-gone"])
@pytest.mark.parametrize("name", ["clips", "tails"])
def test_a_shard_that_is_lost_is_lost_to_everybody(out: Made, name: str, damage: str) -> None:
    recipe = halved(out.videos, out.output)
    path = ledgers(out.output / name)["000001"]
    if damage == "tar-gone":
        path = out.output / name / footer(path)["tar"]["name"]
    if damage == "ledger-cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    below = SETS[SETS.index(name) :]
    done = {step.name: step.done for step in status(recipe.output).steps}
    assert {step: done[step] for step in SETS} == {**dict.fromkeys(SETS, 3), **dict.fromkeys(below, 2)}
    assert reads(out.output / name) is None
    assert any(problem.where.startswith(f"{out.output / name}/") for problem in verify(recipe.output))
    run(recipe)
    assert check_agreement(out.output, recipe) == {"raw": 3, **dict.fromkeys(SETS, 3)}


# --- names are for people, links go by digest


def test_a_renamed_step_leaves_everything_readable_and_nothing_made_again(out: Made) -> None:
    before, shards = files(out.output), shard_digests(out.output)
    keys = reads(out.output / "good")
    renamed = halved(out.videos, out.output, scores="scores2")
    summary = run(renamed)
    assert {step.name: step.shards_made for step in summary.steps} == {
        "raw": 0, "clips": 0, "scores2": 3, "tails": 0, "good": 0, "train": 0,
    }  # fmt: skip
    assert not plan(renamed).has_work
    assert reads(out.output / "good") == keys
    assert reads(out.output / "tails")
    assert [str(problem) for problem in verify(renamed.output) if "/scores/" not in problem.where] == []
    assert shard_digests(out.output) == {**shards, "scores2": shards["scores"]}
    after = files(out.output)
    made = {name for name, file in before.items() if name.endswith((".tar", ".parquet")) and after.get(name) != file}
    assert made == set(), "no shard was written again"


@pytest.mark.parametrize("gone", [("raw",), ("raw", "scores")])
def test_a_parent_that_was_removed_as_a_whole_cannot_be_checked(out: Made, gone: tuple[str, ...]) -> None:
    keys = reads(out.output / "clips")
    for name in gone:
        shutil.rmtree(out.output / name)
    assert reads(out.output / "clips") == keys
    assert list(verify(str(out.output / "clips"))) == []
    if gone == ("raw",):
        assert [str(problem) for problem in verify(str(out.output))] == []
        assert {step.name: step.done for step in status(str(out.output)).steps} == {**dict.fromkeys(SETS, 3), "train": 4}
