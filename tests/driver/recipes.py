"""Recipes that the tests of the driver run."""

from __future__ import annotations

from pathlib import Path

from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
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
            Pass(name="features", stages=(Costly(),)),
            Gather(name="train", does=Pack(seed=seed, samples_per_shard=3)),
        ),
    )
