"""A recipe that reads a name which several columns of the source would have is refused before anything runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardprep.cli.tables import flatten, pick
from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.errors import RecipeError
from shardprep.expressions.query import run_query
from shardprep.gather.settings import Pack, Select
from shardprep.packed.sets import open_set
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings, Step
from shardprep.sources.safe_names import safe_names
from shardprep.sources.spec import SourceSpec
from shardprep.stages.drop_where import DropWhere
from tests.driver.outputs import make_sources

NAMES = safe_names(["id", "ID"])


@dataclass(frozen=True)
class Place:
    folder: Path

    def recipe(self, rows: list[dict[str, Any]], *steps: Step) -> Recipe:
        make_sources(self.folder / "videos", range(len(rows)))
        paths = sorted((self.folder / "videos").iterdir())
        lines = [json.dumps({"path": str(path), **row}) for path, row in zip(paths, rows, strict=True)]
        (self.folder / "list.jsonl").write_text("\n".join(lines))
        source = SourceSpec(list=str(self.folder / "list.jsonl"))
        return Recipe(name="clash", source=source, output=str(self.folder / "out"), settings=RunSettings(workers=1), steps=steps)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    "step",
    [
        Gather(name="good", does=Select(where="meta.id < 50")),
        Gather(name="good", does=Select(where="meta['ID'] < 50")),
        Gather(name="good", does=Select(where="meta.id.inner < 50")),
        Gather(name="good", does=Select(sort="meta.Id DESC", limit=1)),
        Gather(name="good", does=Pack(bucket_by=("meta.id",))),
        Pass(name="good", stages=(DropWhere(expression="meta.id < 50"),)),
    ],
)
def test_a_plain_name_is_refused_wherever_it_is_read(place: Place, step: Step) -> None:
    recipe = place.recipe([{"id": 1, "ID": 100}, {"id": 2, "ID": 200}], step)
    said = r"step good: meta\.(id|ID|Id)(\.inner)? is ambiguous: the source has 'ID' and 'id', which are the columns "
    said += rf"meta\.{NAMES['ID']}, meta\.{NAMES['id']}"
    with pytest.raises(RecipeError, match=said):
        plan(recipe)
    with pytest.raises(RecipeError, match=said):
        run(recipe)
    assert not (place.folder / "out").exists()


def test_the_columns_are_read_by_their_own_names(place: Place) -> None:
    recipe = place.recipe([{"id": 1, "ID": 100}, {"id": 60, "ID": 2}], Gather(name="good", does=Select(where=f"meta.{NAMES['id']} < 50")))
    assert any("the source has 'ID' and 'id'" in note for note in plan(recipe).notes)
    run(recipe)
    kept = open_set(str(place.folder / "out/good"))
    assert [sample.get(f"meta.{NAMES['ID']}") for sample in kept] == [100]


def test_a_new_row_that_brings_a_clash_ends_the_run_and_reads_no_other_column(place: Place) -> None:
    step = Gather(name="good", does=Select(where="meta.id = 1"))
    run(place.recipe([{"id": 1}, {"id": 2}], step))
    with pytest.raises(RecipeError, match="ambiguous"):
        run(place.recipe([{"id": 1}, {"id": 2}, {"ID": 1}], step))
    assert [sample.get("meta.id") for sample in open_set(str(place.folder / "out/good"))] == [1], "what was made is as it was"


def test_the_table_says_that_a_plain_name_is_ambiguous(place: Place) -> None:
    step = Gather(name="good", does=Select(where="true"))
    run(place.recipe([{"id": 1, "ID": 100}], step), RunOptions())
    rows = open_set(str(place.folder / "out/raw")).table()
    said = rf"meta\.id is ambiguous; there is meta\.{NAMES['ID']}, meta\.{NAMES['id']}"
    for settings in ({"where": "meta.id < 50"}, {"order_by": "meta.id"}):
        with pytest.raises(RecipeError, match=said):
            run_query(rows, **settings)  # type: ignore[arg-type] # text under either name
    with pytest.raises(RecipeError, match=said):
        pick(flatten(rows), ["meta.id"])
