"""The same stages give the same result however they are grouped into passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.driver.run import run
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.shards.join import open_view
from shardprep.shards.store import Store
from shardprep.sources.spec import SourceSpec
from tests.driver.made import Made
from tests.driver.stages import CopyName, Number, Renumber

GROUPINGS = [
    [(Number(), Renumber(), CopyName())],
    [(Number(),), (Renumber(), CopyName())],
    [(Number(),), (Renumber(),), (CopyName(),)],
]


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_a_stage_that_changes_its_input_in_place_changes_nothing_for_others(
    made: Made, tmp_path: Path, grouping: list[tuple[Number, ...]]
) -> None:
    recipe = Recipe(
        name="grouped",
        source=SourceSpec(videos=str(made.videos), samples_per_shard=4),
        output=str(tmp_path / "out"),
        settings=RunSettings(workers=1, max_failed=1.0),
        steps=tuple(Pass(name=f"pass-{number}", stages=stages) for number, stages in enumerate(grouping)),
    )
    summary = run(recipe)
    failed = [step.failed for step in summary.steps if step.failed]
    assert failed == [{"wrong-outcomes": 5}]
    kept = {
        sample.get("source.name"): sample.get("copy.name") for sample in open_view(Store(f"{tmp_path}/out/{recipe.steps[-1].name}").url)
    }
    assert kept == {f"v00{number}.mp4": f"v00{number}.mp4" for number in (0, 2, 4, 6, 8)}
