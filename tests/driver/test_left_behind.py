"""What a recipe no longer has is named as left behind by all who look at an output, and stops none of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.driver.clean import clean
from shardprep.driver.left_behind import Left, what_is_left
from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.errors import IncompleteSet
from shardprep.packed.sets import open_set
from shardprep.recipe.model import Pass, Recipe
from shardprep.shards.lineage import RECIPE_FILE
from tests.driver.made import Made
from tests.driver.outputs import make_sources
from tests.driver.stages import Costly

AGAINST = f"--recipe RECIPE {RECIPE_FILE}"


def without(recipe: Recipe, name: str) -> Recipe:
    return replace(recipe, steps=tuple(step for step in recipe.steps if step.name != name))


def problems(url: object) -> list[str]:
    return [str(problem) for problem in verify(str(url))]


def commanded(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def change_a_source(made: Made) -> None:
    (made.videos / "v003.mp4").write_bytes((made.videos / "v008.mp4").read_bytes())


@pytest.fixture
def shorter(made: Made) -> Recipe:
    """The recipe without its selection, run after a source was changed and another one added."""
    recipe = without(made.recipe(), "good")
    change_a_source(made)
    make_sources(made.videos, [77])
    run(recipe)
    return recipe


def test_the_set_of_a_step_that_was_removed_stops_neither_verify_nor_status(made: Made, shorter: Recipe) -> None:
    url = str(made.output)
    assert not plan(shorter).has_work
    assert problems(url) == []
    found = status(url)
    assert not found.has_work
    assert [step.name for step in found.steps] == ["raw", "numbers", "features", "train"]
    behind = "left behind: the sets of steps that the recipe no longer has: good; 1 older packing."
    assert found.notes == (f"{behind} Remove with: shardprep clean {url} {AGAINST}",)
    not_checked = "not checked: the sets of steps that the recipe no longer has: good."
    assert commanded("verify", url) == (0, f"{not_checked} Remove with: shardprep clean {url} {AGAINST}\n{url}: clean\n")
    clean(url, steps=[step.name for step in shorter.steps])
    assert (problems(url), status(url).notes) == ([], ())


def test_a_set_of_a_removed_step_that_is_named_itself_says_which_command_helps(made: Made, shorter: Recipe) -> None:
    found = problems(made.output / "good")
    assert found
    for problem in found:
        assert problem.endswith(
            f"The recipe no longer has this step, and no run makes it whole. Remove it with: shardprep clean {made.output} {AGAINST}"
        )
        assert "Run the recipe again" not in problem
    remedy = f"shardprep clean {made.output} {AGAINST}"
    with pytest.raises(IncompleteSet) as caught:
        open_set(str(made.output / "good"))
    assert str(caught.value).endswith(f"The recipe no longer has this step, and no run makes it whole. Remove it with: {remedy}")
    assert problems(made.output / "numbers") == []


def test_a_packed_set_of_a_removed_step_says_which_command_helps(made: Made) -> None:
    run(without(made.recipe(), "train"))
    assert [str(sample.key) for sample in open_set(str(made.output / "train"))], "whole as long as what it was packed from is"
    change_a_source(made)
    run(without(made.recipe(), "train"))
    with pytest.raises(IncompleteSet, match=r"no run makes it whole\. Remove it with: shardprep clean .* --recipe RECIPE"):
        open_set(str(made.output / "train"))


def test_a_packed_set_whose_set_is_left_behind_too_says_the_way_out_once(made: Made) -> None:
    shorter = without(without(made.recipe(), "train"), "features")
    run(shorter)
    change_a_source(made)
    run(shorter)
    with pytest.raises(IncompleteSet) as caught:
        open_set(str(made.output / "train"))
    said = str(caught.value)
    assert "features, which it was packed from, is not whole: " in said
    assert (said.count("Remove it with"), said.count("no run makes it whole"), said.lower().count("run the recipe again")) == (1, 1, 0)


def test_a_removed_steps_set_is_checked_while_a_set_is_read_with_it(made: Made) -> None:
    """The run ended before the steps that are still read with the selection."""
    change_a_source(made)
    recipe = without(made.recipe(), "good")
    run(recipe, RunOptions(until="numbers"))
    assert plan(recipe).has_work
    assert {step.name for step in status(str(made.output)).steps if step.stale} == {"good", "features", "train"}
    assert any(problem.startswith(f"{made.output}/good/") for problem in problems(made.output))
    assert not what_is_left(str(made.output)).former
    run(recipe)
    assert problems(made.output) == []
    assert what_is_left(str(made.output)).former == ("good",)


def test_a_step_of_a_run_that_was_killed_is_left_behind_by_the_next_recipe(made: Made) -> None:
    """Nobody noted it as a step: the run did not come to its end."""
    recipe = made.recipe()
    more = replace(recipe, steps=(recipe.steps[0], Pass(name="tails", stages=(Costly(length=7),))))
    noted = (made.output / "raw/set.json").read_bytes()
    run(more)
    (made.output / "raw/set.json").write_bytes(noted)
    next((made.output / "tails").glob("000001-*.parquet")).unlink()
    assert problems(made.output), "the recipe that has it may be run again"
    run(recipe)
    assert problems(made.output) == []
    assert what_is_left(str(made.output)).former == ("tails",)


def test_a_step_that_the_recipe_has_again_counts_as_soon_as_the_run_begins(made: Made, shorter: Recipe) -> None:
    run(made.recipe(), RunOptions(until="numbers"))
    assert any(step.name == "good" and step.stale for step in status(str(made.output)).steps)
    run(made.recipe())
    assert problems(made.output) == []
    assert not what_is_left(str(made.output)).former


def test_a_shard_that_is_out_of_date_is_told_in_one_sentence(made: Made) -> None:
    change_a_source(made)
    run(made.recipe(), RunOptions(until="numbers"))
    found = problems(made.output / "good")
    assert found
    assert len(found) == len({problem.split("/good/")[1][:6] for problem in found}), "a line for each shard"
    assert not any("Remove it" in problem for problem in found), "the next run copies outcomes from it, and clean leaves it"


def test_a_file_that_is_not_shardpreps_is_not_said_to_go_with_clean(made: Made) -> None:
    (made.output / "good/notes.txt").write_text("mine")
    assert problems(made.output) == [f"{made.output}/good/notes.txt: no shard of the set needs this file. Remove it"]


def test_older_packings_are_said_by_every_run_and_status_while_they_are_there(made: Made) -> None:
    url = str(made.output)
    run(made.recipe(seed=1))
    for seed, num_older in ((2, 2), (2, 2), (2, 2), (1, 2)):
        left = run(made.recipe(seed=seed)).left_behind
        assert left == Left(output=url, num_packings=num_older)
        assert status(url).notes == (f"left behind: 2 older packings. Remove with: shardprep clean {url}",) == (str(left),)
    clean(url)
    assert run(made.recipe(seed=1)).left_behind is None
    assert status(url).notes == ()


def test_the_command_names_the_recipe_file_and_how_the_store_is_reached() -> None:
    left = Left(output="s3://b/my out", former=("good", "old"), num_packings=1, num_files=3)
    assert left.said("my recipe.yaml", ("--storage-options", "s3.json")) == (
        "left behind: the sets of steps that the recipe no longer has: good, old; 1 older packing; 3 superseded files. "
        "Remove with: shardprep clean 's3://b/my out' --recipe 'my recipe.yaml' --storage-options s3.json"
    )
    assert str(replace(left, former=())).endswith("Remove with: shardprep clean 's3://b/my out'")
