"""What is said before a run of captions that go to all clips of a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.driver.raw import raw_state
from shardprep.recipe.model import Pass, Recipe
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips


def said(place: Path, **source: str) -> list[str]:
    """Return the notes about captions, up to the number."""
    spec = SourceSpec(**{name: str(place / value) for name, value in source.items()})  # type: ignore[arg-type]  # texts all
    recipe = Recipe(name="r", source=spec, output=str(place / "out"), steps=(Pass(name="clips", stages=(CutClips(),)),))
    return [note.partition(" of whole")[0] for note in raw_state(recipe, retry=False).notes if "caption" in note]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_caption_file_without_a_byte_is_no_caption(tmp_path: Path, number: int) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "d.txt").touch()
    for name in ("a", "b")[:number]:
        (tmp_path / f"{name}.txt").write_text("a red car")
    assert said(tmp_path, videos=".") == ([f"{number} caption{'s' if number > 1 else ''}"] if number else [])


def test_an_empty_field_of_a_list_is_no_caption(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path,caption\na.mp4,a red car\nb.mp4,\n")
    assert said(tmp_path, list="list.csv") == ["1 caption"]
