"""Rows that name one file several times, with times, become its clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardprep.driver.run import run
from shardprep.errors import RecipeError
from shardprep.recipe.check import check_recipe
from shardprep.recipe.model import Pass, Recipe
from shardprep.shards.join import open_view
from shardprep.sources.given_clips import Span, span_of
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.testing import videos
from tests.driver.test_run import Told
from tests.fates import fates

ROWS = """path,start,end,caption,score
a.mp4,0:00:01.500,0:00:03.000,the second,0.5
a.mp4,0,2.0,the first,0.25
a.mp4,1,2.5,,0.5
b.mp4,0.5,1,of b,1
a.mp4,3,1,backwards,0
gone.mp4,0,1,x,0
gone.mp4,1,2,y,0
c.mp4,,,the whole of c,2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(videos.three_shots())
    (tmp_path / "list.csv").write_text(ROWS)
    return tmp_path


def spec(folder: Path, **settings: Any) -> SourceSpec:
    return SourceSpec(list=str(folder / "list.csv"), **{"start_column": "start", "end_column": "end", **settings})


def test_one_entry_per_file_with_its_clips_in_order(folder: Path) -> None:
    entries = sorted(list_source(spec(folder)), key=lambda entry: (entry.path, entry.problem or ""))
    assert [(entry.path, entry.problem and entry.problem.partition(":")[0]) for entry in entries] == [
        ("a.mp4", None),
        ("a.mp4", "bad-times"),
        ("b.mp4", None),
        ("c.mp4", None),
        ("gone.mp4", "missing-file"),
    ]
    clips = entries[0].record["spans"]
    assert (clips["starts"], clips["ends"]) == ([0.0, 1.0, 1.5], [2.0, 2.5, 3.0])
    assert clips["texts"] == ["the first", "", "the second"]
    assert [json.loads(row) for row in clips["rows"]] == [{"score": 0.25}, {"score": 0.5}, {"score": 0.5}]
    assert "caption" not in entries[0].record
    assert entries[2].record["meta"] == {"score": 1.0}, "what all clips of a file share is the file's"
    assert "row 5 of list.csv: it goes from '3' to '1'; expected seconds or H:MM:SS.mmm" in str(entries[1].problem)
    assert entries[3].record["caption"] == {"text": "the whole of c"}


@pytest.mark.parametrize("bad", [0, 1])
def test_a_row_that_is_too_much_fails_alone_whatever_its_place(folder: Path, bad: int) -> None:
    rows: list[dict[str, Any]] = [{"path": "a.mp4", "start": second, "end": second + 1, "score": second} for second in range(2)]
    rows[bad]["deep"] = json.loads("[" * 40 + "]" * 40)
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    clips = SourceSpec(list=str(folder / "list.jsonl"), start_column="start", end_column="end")
    good, failed = sorted(list_source(clips), key=lambda entry: entry.problem or "")
    assert good.problem is None
    assert good.record["spans"]["starts"] == [1 - bad]
    assert good.record["meta"] == {"score": 1 - bad}
    assert str(failed.problem).startswith(f"bad-row: row {bad + 1} of list.jsonl: it nests more than 32 levels")
    assert (failed.path, good.path) == ("a.mp4", "a.mp4")
    assert failed.key != good.key


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (0, 1, Span(0, 1)),
        ("1.5", "0:02", Span(1.5, 2)),
        ("00:01:02,250", "1:00:00.5", Span(62.25, 3600.5)),
        ("90:00", 5401, Span(5400, 5401)),
        (None, None, None),
    ],
)
def test_times(start: object, end: object, span: Span | None) -> None:
    assert span_of(start, end) == span


@pytest.mark.parametrize(("start", "end"), [(None, 1), (1, 1), (-1, 2), ("x", 2), (0, float("inf")), (True, 2), ("nan", 3), ("1:2:3:4", 9)])
def test_times_that_are_none(start: object, end: object) -> None:
    assert "expected seconds or H:MM:SS.mmm, the end after the start" in str(span_of(start, end))


def test_the_clips_are_cut_with_their_captions_and_may_overlap(folder: Path) -> None:
    recipe = Recipe(
        name="r", source=spec(folder), output=str(folder / "out"), steps=(Pass(name="clips", stages=(CutClips(preset="ultrafast"),)),)
    )
    check_recipe(recipe)
    told = Told()
    run(recipe, None, told)
    clips = {sample.key.partition("-")[0] + sample.key[-6:]: sample for sample in open_view(str(folder / "out/clips"))}
    found = {name: (s.get("clip.starts"), s.get("clip.ends"), s.get("caption.text"), s.get("meta.score")) for name, s in clips.items()}
    assert found == {
        "a-00000": ([0.0], [2.0], "the first", 0.25),
        "a-00001": ([1.0], [2.5], None, 0.5),
        "a-00002": ([1.5], [3.0], "the second", 0.5),
        "b-00000": ([0.5], [1.0], "of b", 1.0),
        "c-00000": ([0.0], [4.0], "the whole of c", 2.0),
    }
    assert {fate.reason for fate in fates(folder / "out", "raw").values()} == {None, "bad-times", "missing-file"}
    assert told.messages == [
        "1 caption of whole videos was copied to all of their clips; a list with start_column and end_column gives each clip its own"
    ]


def test_a_row_that_lies_beyond_its_video_is_counted_and_told(folder: Path) -> None:
    (folder / "list.csv").write_text("path,start,end,caption\na.mp4,2,9,beyond\na.mp4,0,1,inside\nb.mp4,5000,6000,ms\nb.mp4,0,1,inside\n")
    stages = (CutClips(preset="ultrafast"),)
    recipe = Recipe(name="r", source=spec(folder), output=str(folder / "out"), steps=(Pass(name="clips", stages=stages),))
    summary = run(recipe)
    clips = {step.name: step for step in summary.steps}["clips"]
    assert (clips.failed, clips.children_failed, clips.samples_out) == ({}, {"bad-times": 2}, 2)
    assert (clips.samples_in, clips.kept, summary.failed_total) == (2, 2, 2)
    assert "cut_clips: its end 9 s lies beyond the video, which is shown from 0 s to 4 s" in str(clips.first_failure)
    assert [sample.get("caption.text") for sample in open_view(str(folder / "out/clips"))] == ["inside", "inside"]


def test_settings_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(RecipeError, match="given together"):
        spec(folder, end_column=None)
    with pytest.raises(RecipeError, match="start_column is about the columns of a list"):
        SourceSpec(videos="v", start_column="a", end_column="b")
    with pytest.raises(RecipeError, match="source.start_column: list.csv has no column 'begin'"):
        list_source(spec(folder, start_column="begin"))
