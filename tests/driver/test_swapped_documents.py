"""A whole document of another kind, or of another set, in the place of one: found by verify, and mended by the next run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shardprep.driver.clean import find_leftovers
from shardprep.driver.run import run
from shardprep.driver.verify import verify
from shardprep.errors import Damaged
from shardprep.shards.set import read_info
from shardprep.shards.store import Store
from tests.driver.made import Made
from tests.driver.outputs import digests

_WRITTEN = (".tar", "index.parquet", ".json", "README.md")
_DOCUMENTS = (
    "raw/set.json",
    "raw/digests.json",
    "numbers/set.json",
    "numbers/digests.json",
    "good/set.json",
    "train/set.json",
    "train/manifest.json",
    "train/*/set.json",
    "train/*/manifest.json",
)


def found(output: Path, pattern: str) -> Path:
    (path,) = output.glob(pattern)
    return path


@pytest.mark.parametrize("place", _DOCUMENTS)
def test_every_other_document_in_its_place_is_found_and_mended(made: Made, place: str) -> None:
    fresh = digests(made.output, *_WRITTEN)
    path = found(made.output, place)
    for other in _DOCUMENTS:
        if other == place:
            continue
        shutil.copyfile(found(made.output, other), path)
        assert list(verify(str(made.output))), f"{other} in its place is not found"
        find_leftovers(str(made.output))
        run(made.recipe())
        assert digests(made.output, *_WRITTEN) == fresh, other
        assert list(verify(str(made.output))) == [], other


@pytest.mark.parametrize("other", ["raw/digests.json", "train/manifest.json", "train/*/manifest.json"])
def test_another_document_is_damage_as_a_changed_byte_is(made: Made, other: str) -> None:
    shutil.copyfile(found(made.output, other), made.output / "good" / "set.json")
    with pytest.raises(
        Damaged, match=r"good/set.json cannot be read \(another document lies in its place: it lacks 'parents'\)\. Run the recipe again"
    ):
        read_info(Store(str(made.output / "good")))
