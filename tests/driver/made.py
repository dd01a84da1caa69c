"""An output that was made once, and copies of it for tests to spoil."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from shardprep.driver.model import RunSummary, StepSummary
from shardprep.driver.run import run
from shardprep.recipe.model import Recipe
from tests.driver.outputs import make_sources, strays
from tests.driver.program import start
from tests.driver.recipes import counted


@dataclass(frozen=True)
class Made:
    """An output, the videos it was made from, and the folder in which its stages note their calls."""

    folder: Path

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def recipe(self, **changes: object) -> Recipe:
        return counted(self.videos, self.output, **changes)  # type: ignore[arg-type] # settings of each test

    def killed_at(self, when: str, *settings: str) -> bool:
        """Run in a process of its own that is killed at that change of the output (see `killing`); return whether it was."""
        process = start("counted", self.videos, self.output, settings, (self.folder / "changes", when))
        process.communicate(timeout=120)
        return process.returncode == -signal.SIGKILL

    def copy(self, folder: Path) -> Made:
        """Copy the videos and the output, times included."""
        copied = Made(folder)
        shutil.copytree(self.videos, copied.videos)
        shutil.copytree(self.output, copied.output)
        copied.log.mkdir()
        return copied


def make_first(folder: Path) -> Made:
    """Make ten videos in three shards and run the counted recipe over them."""
    made = Made(folder)
    make_sources(made.videos, range(10))
    made.log.mkdir()
    run(made.recipe())
    assert strays(made.output) == []
    return made


def by_name(summary: RunSummary) -> dict[str, StepSummary]:
    return {step.name: step for step in summary.steps}


def worked_on(summary: RunSummary) -> dict[str, int]:
    """Return the samples that each pass worked on."""
    return {step.name: step.worked_on for step in summary.steps if step.kind in ("source", "pass")}


def shards_made(summary: RunSummary) -> dict[str, int]:
    return {step.name: step.shards_made for step in summary.steps}
