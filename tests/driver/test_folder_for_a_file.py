"""A folder where a file of an output should be: found by verify, and the next run is mended by itself or says what to move away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from shardprep.driver.verify import verify
from shardprep.errors import ShardprepError, StoreError
from tests.driver.made import Made
from tests.driver.outputs import digests

_FINAL = (".tar", "index.parquet", "manifest.json", "set.json")
_PLACES = (
    "raw/set.json",
    "raw/digests.json",
    "raw/assignment-*.parquet",
    "raw/000000-*.tar",
    "raw/000000-*.parquet",
    "numbers/set.json",
    "numbers/000001-*.parquet",
    "train/set.json",
    "train/manifest.json",
    "train/README.md",
    "train/*/set.json",
    "train/*/manifest.json",
    "train/*/index.parquet",
    "train/*/b000-000001.tar",
    "train/*/ledgers/b000-000001-*.parquet",
)


def problems(output: Path) -> list[str]:
    try:
        return [str(problem) for problem in verify(str(output))]
    except ShardprepError as error:
        return [str(error)]


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("place", _PLACES)
def test_a_folder_in_the_place_of_a_file_is_told_and_moving_it_away_is_enough(made: Made, place: str, repair: bool) -> None:
    fresh = digests(made.output, *_FINAL)
    (path,) = made.output.glob(place)
    (manifest,) = made.output.glob("train/*/manifest.json")
    path.unlink()
    path.mkdir()
    (path / "notes.txt").write_text("somebody's")
    assert problems(made.output)
    said = rf"{re.escape(str(path))}: it is a folder, expected a file\. Check the path, or move that folder away"
    with pytest.raises(StoreError, match=said):
        run(made.recipe(), RunOptions(repair=repair))
    assert (path / "notes.txt").exists()
    assert manifest.exists(), "nothing is taken away before what replaces it can be made"
    path.rename(made.folder / "away")
    run(made.recipe(), RunOptions(repair=repair))
    assert digests(made.output, *_FINAL) == fresh
    assert problems(made.output) == []
