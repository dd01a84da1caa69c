"""What a plan says beside shards: samples, time and bytes to come, changes of the source, missing files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.stages.score_aesthetic import ScoreAesthetic
from tests.driver.made import Made
from tests.driver.outputs import footer, ledgers
from tests.driver.recipes import planned
from tests.driver.stages import Number


def test_a_step_is_not_free_after_its_failures_were_retried(made: Made) -> None:
    refuse = made.log / "refuse"
    refuse.write_text("v005.mp4")
    (made.videos / "v005.mp4").write_bytes(b"other bytes, so that it is worked on anew")
    slow = _with(made.recipe(length=5), seconds=0.1)
    run(slow)
    before = planned(_with(slow, length=6))["features"].seconds_estimate
    refuse.unlink()
    run(slow, RunOptions(retry=True))
    after = planned(_with(slow, length=6))["features"].seconds_estimate
    assert before is not None
    assert after == pytest.approx(before, rel=0.5)
    assert any(footer(path)["reused_seconds"] > 0 for path in ledgers(made.output / "features").values())


def _with(recipe: Recipe, **changes: float) -> Recipe:
    """Return the recipe with other settings of its costly stage."""
    steps = [
        replace(step, stages=(replace(step.stages[0], **changes),)) if isinstance(step, Pass) and step.name == "features" else step
        for step in recipe.steps
    ]
    return replace(recipe, steps=tuple(steps))


def test_samples_and_bytes_to_come_are_estimated_from_what_was_made(made: Made) -> None:
    steps = planned(made.recipe(scale=2.0))
    # Ten videos in numbers; six of them pass `number >= 4`, and the packed samples hold what raw and features do.
    assert (steps["numbers"].samples, steps["good"].samples) == (10, 10)
    assert steps["features"].samples == 6
    assert (steps["numbers"].reasons, steps["numbers"].stale_samples) == (("number.scale changed from 1 to 2",), 10)
    assert steps["numbers"].bytes_estimate == steps["good"].bytes_estimate == 0
    made_bytes = sum(path.stat().st_size for path in (made.output / "features").glob("*.tar"))
    assert steps["features"].bytes_estimate == pytest.approx(made_bytes, rel=0.01)
    packed = sum(path.stat().st_size for path in (made.output / "train").rglob("*.tar"))
    assert steps["train"].bytes_estimate == pytest.approx(packed, rel=0.5)
    assert [step.samples for step in planned(made.recipe()).values()] == [0, 0, 0, 0, 0], "nothing is to be made"


def test_of_a_first_run_what_nothing_tells_is_not_said_to_be_nothing(made: Made, tmp_path: Path) -> None:
    steps = planned(replace(made.recipe(), output=str(tmp_path / "new")))
    assert steps["raw"].bytes_estimate == sum(path.stat().st_size for path in made.videos.iterdir())
    assert (steps["features"].bytes_estimate, steps["train"].bytes_estimate) == (None, None)
    assert (steps["numbers"].bytes_estimate, steps["features"].samples) == (0, 10), "a select keeps ten at most"


def test_changes_of_the_source_are_counted(made: Made) -> None:
    (made.videos / "v001.mp4").unlink()
    (made.videos / "v002.mp4").write_bytes(b"changed")
    for name in ("n1.mp4", "n2.mp4"):
        (made.videos / name).write_bytes(b"new")
    assert "samples of the source: 2 new, 1 changed, 1 removed" in planned(made.recipe())["raw"].reasons


def test_missing_files_of_a_list_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path\na.mp4\ngone.mp4\nlost.mp4\n")
    recipe = Recipe(name="r", source=SourceSpec(list=str(tmp_path / "list.csv")), output=str(tmp_path / "out"), steps=())
    assert plan(recipe).steps[0].reasons == ("2 of 3 will fail (missing-file), the first gone.mp4",)


def test_wrong_weights_of_a_late_step_are_said_before_the_first_is_made(tmp_path: Path) -> None:
    (tmp_path / "v1.mp4").write_bytes(b"x")
    steps = (Pass(name="a", stages=(Number(),)), Pass(name="b", stages=(EmbedT5(model="./no/such/folder"),)), Gather(name="c", does=Pack()))
    recipe = Recipe(
        name="r", source=SourceSpec(videos=str(tmp_path)), output=str(tmp_path / "out"), steps=steps, settings=RunSettings(workers=1)
    )
    with pytest.raises(RecipeError, match=r"weights './no/such/folder': no such path"):
        run(recipe)
    assert not (tmp_path / "out").exists()
    assert ScoreAesthetic().weights, "stages say what they load"
