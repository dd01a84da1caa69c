"""After random edits of a recipe and its source, `plan`, `status`, `verify` and the readers say the same of the output.

The runs are real but for one: tasks run one after the other in this process, and nobody waits for the disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.gather.settings import Pack, Select
from shardprep.packed.sets import open_set
from shardprep.recipe.model import RAW, Gather, Pass, Recipe, RunSettings, Step
from shardprep.sources.spec import SourceSpec
from tests.driver.stages import Costly, Number


class History:
    """An output, and the recipe and source that are edited between its runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.draw = random.Random(seed)  # a test that can be run again
        self.done: list[str] = []
        self.names = {"numbers": "numbers", "good": "good", "features": "features"}
        """What each step is called now; those that are not there were removed."""
        self.is_merged = False
        self.scale, self.where, self.seed = 1.0, "true", 0
        (folder / "videos").mkdir()
        for number in range(5):
            self._write(number)

    def recipe(self) -> Recipe:
        """Return the recipe as it stands."""
        steps: list[Step] = []
        numbers, costly = Number(scale=self.scale), Costly()
        if self.is_merged:
            steps.append(Pass(name="both", stages=(numbers, costly)))
        elif "numbers" in self.names:
            steps.append(Pass(name=self.names["numbers"], stages=(numbers,)))
        if "good" in self.names:
            steps.append(Gather(name=self.names["good"], does=Select(where=self.where)))
        if "features" in self.names and not self.is_merged:
            steps.append(Pass(name=self.names["features"], stages=(costly,)))
        steps.append(Gather(name="train", does=Pack(seed=self.seed, samples_per_shard=2)))
        return Recipe(
            name="history",
            source=SourceSpec(videos=str(self.folder / "videos"), samples_per_shard=2),
            output=str(self.folder / "out"),
            settings=RunSettings(workers=1),
            steps=tuple(steps),
        )

    def edit(self) -> None:
        """Change one thing."""
        edits: list[Callable[[], None]] = [
            self._remove_or_bring_back, self._rename, self._merge_or_part, self._settings, self._source, self._source,
        ]  # fmt: skip
        edit = self.draw.choice(edits)
        self.done.append(edit.__name__)
        edit()

    def run(self) -> bool:
        """Run to the end or to a step before it; return whether it was to the end."""
        recipe = self.recipe()
        until = self.draw.choice([None, RAW, *(step.name for step in recipe.steps[:-1])]) if self.draw.random() < 0.5 else None
        self.done.append(f"run until {until}")
        run(recipe, RunOptions(until=until))
        return until is None

    def _remove_or_bring_back(self) -> None:
        step = self.draw.choice(["numbers", "good", "features"])
        if step in self.names:
            del self.names[step]
        else:
            self.names[step] = step

    def _rename(self) -> None:
        for step in self.names:
            self.names[step] = self.draw.choice([step, f"other_{step}"])

    def _merge_or_part(self) -> None:
        self.is_merged = not self.is_merged

    def _settings(self) -> None:
        self.scale = self.draw.choice([1.0, 2.0])
        self.where = self.draw.choice(["true", "source.bytes > 30", "source.bytes > 1000"])
        self.seed = self.draw.choice([0, 1])

    def _source(self) -> None:
        number = self.draw.randrange(8)
        path = self.folder / f"videos/v{number}.mp4"
        if path.exists() and self.draw.random() < 0.4 and len(list(path.parent.iterdir())) > 1:
            path.unlink()
        else:
            self._write(number)

    def _write(self, number: int) -> None:
        (self.folder / f"videos/v{number}.mp4").write_bytes(bytes([65 + number]) * self.draw.randrange(20, 60))


def check_all_agree(recipe: Recipe) -> None:
    """Assert that everybody takes an output for complete."""
    output = recipe.output
    assert not plan(recipe).has_work
    found = status(output)
    assert not found.has_work
    assert [step.name for step in found.steps if step.name != RAW] == [step.name for step in recipe.steps]
    assert [str(problem) for problem in verify(output)] == []
    for step in recipe.steps:
        assert [str(problem) for problem in verify(f"{output}/{step.name}")] == []
        list(open_set(f"{output}/{step.name}"))
    left = run(recipe).left_behind
    assert status(output).notes == (() if left is None else (str(left),))


def live(history: History, num_runs: int) -> int:
    """Let a history go on; return how many runs came to the end of their recipe."""
    num_whole = 0
    for _ in range(num_runs):
        for _ in range(history.draw.randrange(1, 3)):
            history.edit()
        if history.run():
            num_whole += 1
            try:
                check_all_agree(history.recipe())
            except Exception as error:
                raise AssertionError(f"after {', '.join(history.done)}: {error}") from error
    return num_whole


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("seed", range(3))
def test_all_agree_after_every_run_that_came_to_its_end(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path, seed)
    assert live(history, 6) >= 2
