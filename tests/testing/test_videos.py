"""The generated videos are what they say, and the same on every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.core.blob import FileBlob
from shardprep.core.frames import AllFrames, FramesWanted
from shardprep.media.container import DecodeError
from shardprep.media.decode import decode_frames
from shardprep.media.probe import probe
from shardprep.testing import videos


def test_the_demo_has_three_whole_videos_and_a_broken_one(tmp_path: Path) -> None:
    paths = videos.make_videos(tmp_path / "new")
    assert [path.name for path in paths] == ["shots with sound.mp4", "news.mp4", "portrait.mp4", "broken.mp4"]
    assert sorted(path.name for path in (tmp_path / "new").glob("*.txt")) == ["news.txt", "shots with sound.txt"]
    blobs = [FileBlob(str(path), 0, path.stat().st_size) for path in paths]
    assert [probe(blob).num_frames for blob in blobs[:3]] == [96, 96, 72]
    with pytest.raises(DecodeError):
        decode_frames(blobs[3], [FramesWanted(AllFrames(), colour="none")], {0: lambda frame: None})


@pytest.mark.parametrize("name", sorted({**videos.ORDINARY, **videos.HOSTILE}))
def test_a_video_is_the_same_every_time(name: str) -> None:
    make = {**videos.ORDINARY, **videos.HOSTILE}[name]
    assert make() == make()
