"""Weights that are replaced while a pass is made: no shard says that it was made with others than those that were loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardprep.core.outcome import Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Process, Stage, Weights, Worker
from shardprep.driver.model import RunOptions, Silent
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.errors import RunFailed
from shardprep.models.weights import digest_weights
from shardprep.packed.sets import open_set
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.runtime.journal import Journal
from shardprep.runtime.same_weights import WeightsChanged, check_weights
from shardprep.runtime.worker import OpenStages
from shardprep.sources.spec import SourceSpec
from tests.driver.made import Made

_SAID: Mapping[str, ColumnType] = {"said.by": "string"}


def replace_by(file: Path, text: str) -> None:
    """Let another file take the place of this one, as a download does."""
    other = file.with_name("other")
    other.write_text(text)
    os.replace(other, file)


@dataclass(frozen=True, kw_only=True)
class Read(Stage):
    """Says what its weights hold; somebody replaces them at a moment of its work."""

    model: str
    swapped: str = ""
    """`opening`: after they were read, before `open` returns; `working`: while a sample is worked on."""

    accepts = ()
    writes = _SAID

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (Weights(self.model),)

    def open(self, worker: Worker) -> Process:
        text = Path(self.model).read_text()
        if self.swapped == "opening":
            replace_by(Path(self.model), "B")

        def process(batch: Sequence[Sample]) -> Sequence[Outcome]:
            if self.swapped == "working":
                replace_by(Path(self.model), "B")
            return [Kept(sample.with_columns({"said.by": text})) for sample in batch]

        return process


class Swaps(Silent):
    """Somebody who replaces the weights when a step begins: after their digest was taken, before a worker has loaded them."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        if name == "said":
            replace_by(self.file, "B")


def recipe_of(made: Made, tmp_path: Path, **settings: str) -> Recipe:
    """A pass of one stage over the videos; its weights hold A."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("A")
    return Recipe(
        name="r",
        source=SourceSpec(videos=str(made.videos), samples_per_shard=2),
        output=str(tmp_path / "out"),
        settings=RunSettings(workers=1),
        steps=(Pass(name="said", stages=(Read(model=str(tmp_path / "model" / "weights"), **settings),)),),
    )


def test_weights_replaced_before_a_worker_loads_them_end_the_pass(made: Made, tmp_path: Path) -> None:
    recipe = recipe_of(made, tmp_path)
    file = tmp_path / "model" / "weights"
    with pytest.raises(RunFailed, match=r"said: weights .*/model/weights' changed since the run began.*run again"):
        run(recipe, RunOptions(), Swaps(file))
    assert not list((tmp_path / "out" / "said").glob("*.parquet")), "nothing was committed"
    replace_by(file, "A")
    run(recipe, RunOptions())
    assert set(open_set(f"{recipe.output}/said").table().column("said").to_pylist()[0].values()) == {"A"}
    assert not status(recipe.output).has_work


@pytest.mark.parametrize("moment", ["opening", "working"])
def test_weights_replaced_while_they_are_loaded_or_used_end_the_pass(made: Made, tmp_path: Path, moment: str) -> None:
    recipe = recipe_of(made, tmp_path, swapped=moment)
    with pytest.raises(RunFailed, match="changed since the run began"):
        run(recipe, RunOptions())
    assert not list((tmp_path / "out" / "said").glob("*.parquet"))


def test_a_process_that_has_loaded_weights_loads_them_anew_where_they_are_others(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("A")
    stages, read = OpenStages(), Read(model=str(file))

    def said() -> str:
        [process] = stages.get([read], Worker(), Journal(None), {str(file): digest_weights(str(file))})
        [outcome] = process([Sample("k")])
        assert isinstance(outcome, Kept)
        return str(outcome.sample.get("said.by"))

    assert said() == "A"
    replace_by(file, "B")
    assert said() == "B", "a notebook's process lives on from run to run"


def test_weights_that_are_gone_are_changed_and_those_of_the_hub_are_not_asked_for_at_every_shard(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("A")
    digests = {str(file): digest_weights(str(file))}
    check_weights(digests)
    file.unlink()
    with pytest.raises(WeightsChanged, match="changed since the run began"):
        check_weights(digests, local_only=True)
    check_weights({"own/er": "0123456789abcdef" * 2 + "01234567"}, local_only=True)
