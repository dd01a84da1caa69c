"""What an output lacks of the recipe that was run last is known without the recipe, and `status` and `plan` agree."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.driver.model import RunOptions, RunPlan, Silent
from shardprep.driver.noted_steps import what_is_lacking
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.recipe.model import RAW, Pass, Recipe
from shardprep.stages.embed_t5 import EmbedT5
from tests.driver.made import Made
from tests.driver.outputs import make_sources
from tests.driver.recipes import counted
from tests.driver.stages import Costly


def undone(found: RunPlan) -> dict[str, int]:
    return {step.name: step.new + step.stale + step.follows for step in found.steps}


def check_agreement_with_plan(recipe: Recipe) -> RunPlan:
    """Assert that `status` says of every step what `plan` says; return what it says."""
    found, planned = status(recipe.output), plan(recipe)
    assert [(step.name, step.kind) for step in found.steps] == [(step.name, step.kind) for step in planned.steps]
    assert undone(found) == undone(planned)
    assert [step.done for step in found.steps] == [step.done for step in planned.steps]
    assert found.has_work == planned.has_work
    assert [str(problem) for problem in verify(recipe.output)] == []
    return found


def said(*words: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output.splitlines()


def test_steps_that_were_never_made_are_named(made: Made, tmp_path: Path) -> None:
    recipe = counted(made.videos, tmp_path / "new")
    run(recipe, RunOptions(until="numbers"))
    found = check_agreement_with_plan(recipe)
    assert undone(found) == {"raw": 0, "numbers": 0, "good": 3, "features": 3, "train": 1}
    assert {step.reasons for step in found.steps if step.new} == {("no run has come to this step, or its set was removed",)}
    code, lines = said("status", recipe.output)
    assert code == 0
    assert lines[-1] == "not complete: 7 shards are missing, 0 were made from something else than what is there; run the recipe again"
    code, lines = said("verify", recipe.output)
    assert (code, lines) == (
        0,
        ["not complete: there is no set of good, features, train. Run the recipe again", f"{recipe.output}: clean"],
    )
    run(recipe)
    assert not check_agreement_with_plan(recipe).has_work
    assert said("status", recipe.output)[1][-1] == "complete"
    assert said("verify", recipe.output) == (0, [f"{recipe.output}: clean"])


@pytest.mark.parametrize("name", ["numbers", "good"])
def test_steps_that_a_killed_run_did_not_come_to_are_named(made: Made, name: str) -> None:
    shutil.rmtree(made.output)
    killed_before(made, name)
    found = status(str(made.output))
    assert [step.name for step in found.steps] == ["raw", "numbers", "good", "features", "train"]
    assert undone(found)["train"] == 1
    assert undone(found) == undone(plan(made.recipe()))


def killed_before(made: Made, name: str) -> None:
    """Leave the output as a run does that is killed before it writes anything of a step."""

    class Killed(BaseException):
        pass

    class Killer(Silent):
        def step_started(self, step: str, num_shards: int, num_samples: int | None) -> None:
            if step == name:
                raise Killed

    with pytest.raises(Killed):
        run(made.recipe(), reporter=Killer())
    shutil.rmtree(made.output / name)


def test_settings_that_a_run_did_not_come_to_are_told(made: Made) -> None:
    """Another selection and a run that ended before it: what lies there is whole, and not what the recipe makes."""
    recipe = made.recipe(where="scores.number >= 6")
    run(recipe, RunOptions(until="numbers"))
    found = check_agreement_with_plan(recipe)
    assert undone(found) == {"raw": 0, "numbers": 0, "good": 3, "features": 3, "train": 2}
    assert said("verify", recipe.output)[1][0] == (
        "not complete: other settings than those of the recipe that was run last made good, features, train. Run the recipe again"
    )
    run(recipe)
    assert not check_agreement_with_plan(recipe).has_work
    assert not what_is_lacking(recipe.output)


def test_a_step_that_now_reads_another_one_is_told(made: Made) -> None:
    recipe = made.recipe()
    more = replace(recipe, steps=(*recipe.steps[:2], Pass(name="tails", stages=(Costly(length=7),), from_="numbers"), *recipe.steps[2:]))
    run(more, RunOptions(until="numbers"))
    assert [step.name for step in what_is_lacking(recipe.output).absent] == ["tails"]
    assert what_is_lacking(recipe.output).outdated == ("features", "train")
    found = status(recipe.output)
    assert [step.name for step in found.steps] == [RAW, *(step.name for step in more.steps)]
    assert found.has_work


def test_a_step_of_weights_that_are_not_here_is_noted_all_the_same(made: Made) -> None:
    recipe = made.recipe()
    away = Pass(name="text", stages=(EmbedT5(model=str(made.folder / "nowhere")),))
    run(replace(recipe, steps=(*recipe.steps[:1], away)), RunOptions(until="numbers"))
    assert [step.name for step in what_is_lacking(recipe.output).absent] == ["text"]


def test_a_source_that_changed_is_told_as_before(made: Made) -> None:
    make_sources(made.videos, [77])
    run(made.recipe(), RunOptions(until="raw"))
    found = status(str(made.output))
    assert undone(found)["raw"] == 0
    assert undone(found)["numbers"] > 0
    assert not what_is_lacking(str(made.output))
