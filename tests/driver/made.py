"""An output that was made once, and copies of it for tests to spoil."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from shardprep.driver.run import run
from shardprep.recipe.model import Recipe
from tests.driver.outputs import make_sources, strays
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
