"""A pass over a folder of sources, and what became of them, as a stranger reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shardprep.core.stage import Stage
from shardprep.driver.model import RunOptions, RunSummary
from shardprep.driver.run import run
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec


def make_files(folder: Path, count: int = 8) -> Path:
    """Write files that only look like videos: nothing decodes them."""
    folder.mkdir()
    for number in range(count):
        (folder / f"v{number}.mp4").write_bytes(bytes([number]) * 100)
    return folder


def recipe_of(sources: Path, output: Path, *stages: Stage, samples_per_shard: int = 8, **settings: Any) -> Recipe:
    """One pass over a folder of sources."""
    return Recipe(
        name="test",
        source=SourceSpec(videos=str(sources), samples_per_shard=samples_per_shard),
        output=str(output),
        settings=RunSettings(**{"workers": 1, "max_failed": 100, "memory": "64MiB", **settings}),
        steps=(Pass(name="work", stages=stages),),
    )


def run_over(sources: Path, output: Path, *stages: Stage, options: RunOptions | None = None, **settings: Any) -> RunSummary:
    return run(recipe_of(sources, output, *stages, **settings), options)


@dataclass(frozen=True)
class Fate:
    """A row of an input sample, as a stranger reads it."""

    fate: str
    stage: str | None
    reason: str | None
    detail: str | None


def fates(output: Path, step: str = "work", role: str = "input") -> dict[str, Fate]:
    """Return the fate of every input or output of a step by its key, read from the ledgers with pyarrow."""
    found: dict[str, Fate] = {}
    for path in sorted((output / step).glob("0*.parquet")):
        for row in pq.ParquetFile(path).read(columns=["role", "key", "fate", "stage", "reason", "detail"]).to_pylist():
            if row.pop("role") == role:
                key = row.pop("key")
                assert key not in found, f"{key} has two fates"
                found[key] = Fate(**row)
    return found


def scores(output: Path, column: str = "size", step: str = "work") -> Mapping[str, float]:
    """Return a score of every output by its key."""
    found = {}
    for path in sorted((output / step).glob("0*.parquet")):
        for row in pq.ParquetFile(path).read(columns=["role", "key", "fate", "scores"]).to_pylist():
            if row["role"] == "output" and row["fate"] == "kept":
                found[row["key"]] = row["scores"][column]
    return found
