"""Stages outside a run: every kind of stage in a plain webdataset pipeline gives what a run gives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import webdataset

from shardprep.core.blob import read_blob
from shardprep.core.outcome import Dropped, Failed, Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Map, Stage
from shardprep.driver.run import run
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.runtime.adapt import SampleFailed, apply_stages, as_webdataset
from shardprep.shards.join import open_view
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.drop_where import DropWhere
from shardprep.stages.probe_media import ProbeMedia
from shardprep.stages.score_flow import ScoreFlow
from shardprep.stages.score_sharpness import ScoreSharpness
from shardprep.testing.videos import Shot, draw, encode
from tests.runtime.stages import Measure, TellBatch, WatchHash

# webdataset leaves the tars that it reads to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WORDS: Mapping[str, ColumnType] = {"caption.words": "int64"}
STAGES: dict[str, tuple[Stage, ...]] = {
    "map": (Measure(),),
    "frames in batches": (ScoreFlow(), ScoreSharpness(), TellBatch(batch_size=2)),
    "watcher": (WatchHash(), DetectScenes()),
    "filter": (ProbeMedia(), DropWhere(expression="media.num_frames > 30")),
    "split": (ProbeMedia(), DetectScenes(), CutClips(min_seconds=0.2), ScoreSharpness()),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos: two shots, one that moves, a short one."""
    folder = tmp_path_factory.mktemp("adapt")
    shots = {
        "two": [Shot(seconds=1, seed=1), Shot(seconds=1, seed=2)],
        "moving": [Shot(seconds=1.5, px_per_second=40, seed=3)],
        "short": [Shot(seconds=0.5, seed=4)],
    }
    for name, parts in shots.items():
        (folder / f"{name}.mp4").write_bytes(encode(draw(parts, height=64, width=96)))
    return folder


def run_over(videos: Path, output: Path, stages: Sequence[Stage]) -> dict[str, Sample]:
    """Return what a run makes of the videos, by key."""
    run(
        Recipe(
            name="adapt",
            source=SourceSpec(videos=str(videos), samples_per_shard=64),
            output=str(output),
            settings=RunSettings(workers=1),
            steps=(Pass(name="work", stages=tuple(stages)),),
        )
    )
    return {sample.key: sample for sample in open_view(str(output / "work"))}


@pytest.mark.parametrize("kind", STAGES)
def test_a_webdataset_pipeline_gives_what_a_run_gives(videos: Path, tmp_path: Path, kind: str) -> None:
    expected = run_over(videos, tmp_path, STAGES[kind])
    [tar] = (tmp_path / "raw").glob("*.tar")
    pipeline = webdataset.WebDataset(str(tar), shardshuffle=False).compose(as_webdataset(*STAGES[kind]))
    found = {sample["__key__"]: sample for sample in pipeline}
    assert found.keys() == expected.keys()
    assert found
    for key, sample in expected.items():
        assert without_nulls(json.loads(found[key].pop("json"))) == without_nulls(sample.record)
        members = {member.suffix: read_blob(member.blob) for member in sample.members.values()}
        assert {suffix: data for suffix, data in found[key].items() if not suffix.startswith("__")} == members


def test_what_comes_out_goes_on_through_webdataset(videos: Path, tmp_path: Path) -> None:
    run_over(videos, tmp_path, [])
    [tar] = (tmp_path / "raw").glob("*.tar")
    pipeline = (
        webdataset.WebDataset(str(tar), shardshuffle=False).compose(as_webdataset(WatchHash())).decode().to_tuple("json", "trace.txt")
    )
    assert sorted(record["scores"]["hash"] == trace for record, trace in pipeline) == [True] * 3


@dataclass(frozen=True, kw_only=True)
class CountWords(Map):
    """Counts the words of a caption that has no group, as foreign records have them."""

    accepts = ()
    writes = WORDS

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"caption.words": len(sample.record["text"].split())})


def foreign_tar(path: Path, members: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_foreign_keys_and_records_go_through(tmp_path: Path) -> None:
    tar = foreign_tar(tmp_path / "foreign.tar", {"Folder/A b.json": b'{"text": "a cat sleeps", "url": null}', "Folder/A b.cls": b"7"})
    [sample] = webdataset.WebDataset(tar, shardshuffle=False).compose(as_webdataset(CountWords()))
    assert sample["__key__"] == "Folder/A b"
    assert json.loads(sample["json"]) == {"text": "a cat sleeps", "url": None, "caption": {"words": 3}}
    assert sample["cls"] == b"7"


def test_a_failure_is_raised_or_left_out(tmp_path: Path) -> None:
    tar = foreign_tar(tmp_path / "foreign.tar", {"a.json": b'{"text": "one"}', "b.json": b"{}", "c.json": b'{"text": "two three"}'})
    dataset = webdataset.WebDataset(tar, shardshuffle=False)
    with pytest.raises(SampleFailed, match="b: count_words failed: KeyError: 'text'"):
        list(dataset.compose(as_webdataset(CountWords())))
    kept = list(webdataset.WebDataset(tar, shardshuffle=False).compose(as_webdataset(CountWords(), on_failure="drop")))
    assert [sample["__key__"] for sample in kept] == ["a", "c"]


def test_samples_that_are_decoded_already_are_refused_with_the_remedy(tmp_path: Path) -> None:
    tar = foreign_tar(tmp_path / "foreign.tar", {"a.txt": b"one"})
    with pytest.raises(ValueError, match=r"a\.txt is a str; put the stages before \.decode\(\)"):
        list(webdataset.WebDataset(tar, shardshuffle=False).decode().compose(as_webdataset(CountWords())))


def test_one_file_in_a_notebook(videos: Path) -> None:
    [sample] = apply_stages(videos / "two.mp4", ProbeMedia(), DetectScenes())
    assert isinstance(sample, Sample)
    assert sample.get("media.num_frames") == 48
    assert sample.get("scenes.starts") == [0.0, 1.0]
    clips = apply_stages(sample, CutClips(min_seconds=0.2))
    assert [clip.key for clip in clips if isinstance(clip, Sample)] == ["two-00000", "two-00001"]


def test_one_file_that_is_dropped_or_fails(videos: Path, tmp_path: Path) -> None:
    [outcome] = apply_stages(videos / "short.mp4", ProbeMedia(), DropWhere(expression="media.num_frames < 30"))
    assert outcome == Dropped("where", "media.num_frames < 30")
    (tmp_path / "text.mp4").write_text("no video")
    [outcome] = apply_stages(str(tmp_path / "text.mp4"), ProbeMedia())
    assert isinstance(outcome, Failed)
    assert outcome.reason == "not-a-video"


@dataclass(frozen=True, kw_only=True)
class Give(Stage):
    """Gives columns that no JSON holds."""

    accepts = ()
    writes = WORDS

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(sample.with_columns({"caption.words": float("nan")})) for sample in batch]


def test_a_record_that_is_no_json_is_a_failure(tmp_path: Path) -> None:
    tar = foreign_tar(tmp_path / "foreign.tar", {"a.json": b"{}"})
    with pytest.raises(SampleFailed, match="a: column caption.words is nan; records hold finite numbers only"):
        list(webdataset.WebDataset(tar, shardshuffle=False).compose(as_webdataset(Give())))


def without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record without null leaves, which a ledger does not keep."""
    plain = {name: without_nulls(value) if isinstance(value, Mapping) else value for name, value in record.items()}
    return {name: value for name, value in plain.items() if value is not None and value != {}}
