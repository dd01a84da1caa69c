"""Hostile names of the folders themselves: what a user types for input and output is a place, whatever it looks like."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardprep.sources.keys import source_key
from tests.driver.outputs import check_fates, strays
from tests.hostile.commands import Place
from tests.hostile.files import good

FOLDERS = {
    "for-a-shell": "$(touch executed) 'single' \"double\" ; touch executed",
    "for-a-pattern": "{a,b} [c]*? %41 #x",
    "on-two-lines": "-new\nline\x1b[31m",
    "no-utf-8": "\udcff\udcfe",
}


@pytest.mark.parametrize("name", FOLDERS.values(), ids=list(FOLDERS))
def test_input_and_output_are_places(tmp_path: Path, name: str) -> None:
    place = Place.make(tmp_path / "place")
    source, output = place.work / f"{name} in", place.root / "out" / f"{name} out"
    source.mkdir()
    (source / "a.mp4").write_bytes(good())
    recipe = place.recipe({"videos": "nowhere"}, workers=1)
    before = place.around()
    # A terminal that takes no bytes but UTF-8, as Python's is under most locales.
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    said = place.shardprep("run", recipe, f"--input={source.name}", f"--output={os.path.relpath(output, place.work)}", **strict)
    assert (said.code, "Traceback" in said.err) == (0, False), said.err
    for command in ("status", "verify", "table"):
        said = place.shardprep(command, output / "clips", **strict)
        assert (said.code, said.err) == (0, ""), said.err
    assert place.around() == before
    seen = output.rename(place.root / "seen")  # pyarrow opens no path that is no UTF-8
    check_fates(seen, [source_key("a.mp4")])
    assert strays(seen) == []


def test_an_input_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    place = Place.make(tmp_path / "place")
    recipe = place.recipe({"videos": str(place.source)})
    for source, words in (("no\x1bwhere", "there is no such folder"), (str(recipe), "the only file there is no video or image: 1 .yaml")):
        said = place.shardprep("run", recipe, "--input", source)
        assert said.code == 2
        assert words in said.error
    assert not place.out.exists()
