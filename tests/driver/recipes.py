"""Recipes that the tests of the driver run."""

from __future__ import annotations

from pathlib import Path

from shardprep.driver.model import StepPlan
from shardprep.driver.plan import plan
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.probe_media import ProbeMedia
from shardprep.stages.score_sharpness import ScoreSharpness
from tests.driver.stages import Costly, Number


def counted(
    videos: Path,
    output: Path,
    *,
    where: str = "scores.number >= 4",
    scale: float = 1.0,
    samples_per_shard: int = 4,
    seed: int = 0,
    workers: int = 1,
    max_failed: float | None = None,
    length: int = 4,
) -> Recipe:
    """Numbers, a selection by number, a costly stage on what is left, packed."""
    return Recipe(
        name="counted",
        source=SourceSpec(videos=str(videos), samples_per_shard=samples_per_shard),
        output=str(output),
        settings=RunSettings(workers=workers, max_failed=max_failed),
        steps=(
            Pass(name="numbers", stages=(Number(scale=scale),)),
            Gather(name="good", does=Select(where=where)),
            Pass(name="features", stages=(Costly(length=length),)),
            Gather(name="train", does=Pack(seed=seed, samples_per_shard=3)),
        ),
    )


def real(
    videos: Path, output: Path, *, min_seconds: float = 0.3, where: str = "clip.index < 2", seconds: float = 0.0, workers: int = 2
) -> Recipe:
    """Real work on videos: cut at scenes, measured, selected, a costly stage that takes `seconds` per clip, packed."""
    return Recipe(
        name="real",
        source=SourceSpec(videos=str(videos), samples_per_shard=2),
        output=str(output),
        settings=RunSettings(workers=workers),
        steps=(
            Pass(name="clips", stages=(ProbeMedia(), DetectScenes(), CutClips(min_seconds=min_seconds))),
            Pass(name="scores", stages=(ScoreSharpness(),)),
            Gather(name="good", does=Select(where=where)),
            Pass(name="features", stages=(Costly(seconds=seconds),)),
            Gather(name="train", does=Pack(samples_per_shard=3)),
        ),
    )


def planned(recipe: Recipe, **options: bool) -> dict[str, StepPlan]:
    """Return the plan by step."""
    return {step.name: step for step in plan(recipe, **options).steps}
