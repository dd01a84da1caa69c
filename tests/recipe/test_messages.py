"""Mistakes that people make, and that each is said where it was made, with what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from shardprep.core.ranges import ANY, Range
from shardprep.core.sample import Sample
from shardprep.core.stage import Map
from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack
from shardprep.recipe.check import check_recipe
from shardprep.recipe.load import load_recipe, recipe_from_dict
from shardprep.recipe.model import Gather, Pass, Recipe
from shardprep.sources.spec import SourceSpec
from shardprep.stages.catalogue import describe_settings
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.drop_where import DropWhere
from shardprep.stages.score_exposure import ScoreExposure

RECIPE = """\
name: messages
source: {videos: videos}
memory: 2GiB
steps:
  - clips:
      - probe_media
      - cut_clips:
          min_seconds: 1
          crf: 20
  - my_scores: [score_exposure, drop_where: "scores.luma < 0.1"]
  - train: {pack: {bucket_by: media.fps}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path / "r.yaml"


def wrong(file: Path, old: str, new: str) -> str:
    """Return what is said of the recipe with a change in its text."""
    assert old in RECIPE
    file.write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    return str(caught.value).replace(str(file), "r.yaml")


def test_one_name_is_a_list_of_one_and_short_forms_are_whole(file: Path) -> None:
    recipe = load_recipe(file)
    assert [step.name for step in recipe.steps] == ["clips", "my_scores", "train"]
    assert recipe.steps[1].stages[1] == DropWhere(expression="scores.luma < 0.1")  # type: ignore[union-attr]  # a pass
    assert recipe.steps[2].does == Pack(bucket_by=("media.fps",))  # type: ignore[union-attr]  # a gather
    assert Pack(bucket_by="media.fps") == Pack(bucket_by=("media.fps",))  # type: ignore[arg-type]  # what people write


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory: 2GiB", "memory: 2", "r.yaml:3: recipe.memory is 2; expected an amount with its unit; write it as 512MiB or 2GiB"),
        ("memory: 2GiB", "memory: 16MiB", "r.yaml:3: recipe: memory is 16MiB; expected at least 64MiB: with less a worker cannot cut"),
        ("memory: 2GiB", "memory: 2GB", "r.yaml:3: recipe: memory: '2GB' is no amount of memory; write it as 512MiB or 2GiB"),
        ("crf: 20", "crf: 60", "r.yaml:9: step clips: cut_clips: crf 60: with libx264 it is 0 to 51, lower is better (18 by default)"),
        ("crf: 20", "short_side_px: -5", "r.yaml:9: cut_clips.short_side_px is -5; expected a whole number, or null, at least 2"),
        ("crf: 20", "max_seconds: 0.5", "r.yaml:8: cut_clips: min_seconds is 1, above max_seconds 0.5"),
        ("score_exposure", "score_exposure: {short_side_px: -5}", "r.yaml:10: score_exposure.short_side_px is -5; expected a whole"),
        ("score_exposure", "score_exposure: {points: []}", "score_exposure.points is []; expected a list, each a number, 0 to 1"),
        ("score_exposure", "score_exposure: {points: [0.5, 7]}", "score_exposure.points is [0.5, 7.0]; expected a list"),
        ("my_scores", "_scores", "r.yaml:10: the step's name '_scores' would name a folder; it may hold"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_line(file: Path, old: str, new: str, message: str) -> None:
    assert message in wrong(file, old, new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("memory=2GB", "--set memory=2GB: recipe: memory: '2GB' is no amount of memory"),
        ("memory=2", "--set memory=2: recipe.memory is 2; expected an amount with its unit; write it as 512MiB or 2GiB"),
        ("memory=63MiB", "--set memory=63MiB: recipe: memory is 63MiB; expected at least 64MiB"),
        ("steps.clips.cut_clips.preset=bogus", "--set steps.clips.cut_clips.preset=bogus: step clips: cut_clips: preset 'bogus'"),
        ("steps.clips.cut_clips.max_seconds=0.5", "min_seconds is 1, above max_seconds 0.5"),
        ("steps.my_scores.score_exposure.points=[]", "--set steps.my_scores.score_exposure.points=[]: score_exposure.points is []"),
        ("steps.train.pack.bucket_by.0=media.width", "steps.train.pack.bucket_by.0=media.width: steps.2.train.pack.bucket_by holds a"),
        ("steps.clips.1=x", "--set steps.clips.1=x: the stage '1' is not in that step; there is probe_media, cut_clips"),
        ("steps.clips=x", "--set steps.clips=x: name a setting of step clips, such as steps.clips.STAGE.SETTING=VALUE"),
        ("steps.train.pack.roles.0=video", "--set steps.train.pack.roles.0=video: pack.roles is"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_said_of_it(file: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, overrides=[change])
    assert message in str(caught.value)


def test_a_place_in_a_list_can_be_set(file: Path) -> None:
    file.write_text(RECIPE.replace("bucket_by: media.fps", "bucket_by: [media.fps, media.width]"))
    recipe = load_recipe(file, overrides=["steps.train.pack.bucket_by.1=media.height"])
    assert recipe.steps[2].does == Pack(bucket_by=("media.fps", "media.height"))  # type: ignore[union-attr]  # a gather
    for place in ("2", "x", "-1"):
        with pytest.raises(RecipeError, match=rf"bucket_by.{place}=a: {place} is no place in a list of 2"):
            load_recipe(file, overrides=[f"steps.train.pack.bucket_by.{place}=a"])


def test_the_short_form_can_be_changed_from_the_command_line(file: Path) -> None:
    recipe = load_recipe(file, overrides=["steps.my_scores.drop_where.null=keep"])
    assert recipe.steps[1].stages[1] == DropWhere(expression="scores.luma < 0.1", null="keep")  # type: ignore[union-attr]  # a pass


_SCORES: Mapping[str, Any] = {"scores.x": "double"}


@dataclass(frozen=True, kw_only=True)
class ScoreOffset(Map):
    """A stage of somebody else."""

    offset_seconds: Annotated[float, ANY] = 0.0
    window_frames: int = 3
    share: Annotated[float, Range(0, 1)] = 0.5

    accepts = ()
    writes = _SCORES  # each test says another

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"scores.x": self.share})


def recipe_of(stage: ScoreOffset) -> Recipe:
    return Recipe(name="r", source=SourceSpec(videos="v"), steps=(Pass(name="s", stages=(stage,)),))


def test_an_unknown_type_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScoreOffset, "writes", {"scores.x": "float"})
    with pytest.raises(RecipeError, match=r"score_offset writes scores.x as 'float'; there is double, int64, bool, string, list<double>"):
        check_recipe(recipe_of(ScoreOffset()))
    monkeypatch.setattr(ScoreOffset, "writes", {"x": "double"})
    with pytest.raises(RecipeError, match=r"score_offset writes x as 'double'; there is member"):
        check_recipe(recipe_of(ScoreOffset()))


def test_ranges_come_from_types_and_names_also_in_python() -> None:
    check_recipe(recipe_of(ScoreOffset(offset_seconds=-1.0)))
    with pytest.raises(RecipeError, match=r"score_offset.window_frames is -1; expected a whole number, at least 0"):
        check_recipe(recipe_of(ScoreOffset(window_frames=-1)))
    with pytest.raises(RecipeError, match=r"score_offset.share is 1.5; expected a number, 0 to 1"):
        check_recipe(recipe_of(ScoreOffset(share=1.5)))


def test_ranges_are_in_the_description_of_settings() -> None:
    types = {setting.name: setting.type for setting in describe_settings(ScoreExposure)}
    assert types["short_side_px"] == "int (at least 16)"
    assert types["points"] == "tuple[float, ...] (0 to 1)"


def test_defaults_are_in_their_ranges() -> None:
    check_recipe(
        Recipe(name="r", source=SourceSpec(videos="v"), steps=(Pass(name="s", stages=(CutClips(),)), Gather(name="g", does=Pack())))
    )
    with pytest.raises(RecipeError, match="min_seconds is 5, above max_seconds 4"):
        recipe_from_dict({"source": "v", "steps": [{"s": [{"cut_clips": {"min_seconds": 5, "max_seconds": 4}}]}]})
