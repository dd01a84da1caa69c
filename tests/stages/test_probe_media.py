"""probe_media writes facts down, counted as set."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shardprep.core.stage import Stage
from shardprep.media.container import DecodeError
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.probe_media import MEDIA_COLUMNS, ProbeMedia
from shardprep.testing import videos
from tests.running import kept, run_stage, sample_of

BOTH = [ProbeMedia(count="decode"), ProbeMedia(count="packets")]


@pytest.mark.parametrize("stage", BOTH)
@pytest.mark.parametrize("name", videos.ORDINARY)
def test_both_ways_of_counting_agree_on_whole_videos(stage: Stage, name: str) -> None:
    sample = kept(run_stage(stage, sample_of(videos.ORDINARY[name]())))
    other = kept(run_stage(ProbeMedia(), sample_of(videos.ORDINARY[name]())))
    # Only decoding tells whether the size of the frames changes.
    sizes = 1 if stage.count == "decode" or other.get("media.num_frames") == 1 else None
    assert sample.get("media.num_sizes") == sizes
    assert sample.record["media"] | {"num_sizes": 1} == other.record["media"]
    assert {f"media.{name}" for name in sample.record["media"]} == set(MEDIA_COLUMNS)
    assert sample.get("media.num_frames") >= 1


def test_types_are_the_declared_ones() -> None:
    kinds = {"int64": int, "double": float, "bool": bool, "string": str}
    sample = kept(run_stage(ProbeMedia(), sample_of(videos.three_shots())))
    for name, kind in MEDIA_COLUMNS.items():
        assert type(sample.get(name)) is kinds[kind], name


def test_damage_is_found_by_decoding_only() -> None:
    with pytest.raises(DecodeError, match="after frame"):
        run_stage(ProbeMedia(count="decode"), sample_of(videos.damaged()))
    assert kept(run_stage(ProbeMedia(count="packets"), sample_of(videos.damaged()))).get("media.num_frames") == 96


def test_a_resolution_that_changes_in_mid_stream_is_recorded() -> None:
    data = b"".join(changing(place, height, width) for place, (height, width) in enumerate(((120, 160), (96, 128), (120, 160))))
    sample = kept(run_stage(ProbeMedia(), sample_of(data, "ts")))
    assert sample.get("media.num_sizes") == 3
    assert (sample.get("media.height"), sample.get("media.width")) == (120, 160)
    # Every frame of the clip has the size of its first.
    clip = run_stage(CutClips(), sample_of(data, "ts")).children[0][1].sample
    assert (clip.get("media.height"), clip.get("media.width"), clip.get("media.num_sizes")) == (120, 160, 1)
    assert clip.get("media.num_frames") == sample.get("media.num_frames") == 36


def changing(place: int, height: int, width: int) -> bytes:
    """Return half a second of a stream that goes on: its clock does not start anew."""
    pictures = list(videos.draw([videos.Shot(seconds=0.5)], height=height, width=width))
    # From 1 s on: the first decoding time is not below 0, for which the muxer would move them all.
    times = [1 + place / 2 + k / 24 for k in range(len(pictures))]
    return videos.encode(pictures, times=times, container="mpegts")


def test_frames_that_do_not_come_out_are_not_counted() -> None:
    whole = videos.numbered(60, container="mpegts", key_every=20, open_gop=True)
    data = whole[188 * (len(whole) // 188 // 3) :]
    counted = kept(run_stage(ProbeMedia(count="decode"), sample_of(data, "ts"))).get("media.num_frames")
    promised = kept(run_stage(ProbeMedia(count="packets"), sample_of(data, "ts"))).get("media.num_frames")
    assert counted <= promised


@pytest.mark.parametrize("stage", BOTH)
def test_an_image_has_facts_too(stage: Stage) -> None:
    _, data = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))
    sample = kept(run_stage(stage, sample_of(data.tobytes(), "png")))
    assert (sample.get("media.width"), sample.get("media.height"), sample.get("media.num_frames")) == (40, 30, 1)


@pytest.mark.parametrize("stage", BOTH)
@pytest.mark.parametrize(
    "name", ["empty.mp4", "text.mp4", "audio-only.mp4", "truncated.mp4", "truncated-after-index.mp4", "huge-claim.avi"]
)
def test_hostile_files_fail_clearly(stage: Stage, name: str) -> None:
    with pytest.raises(DecodeError):
        run_stage(stage, sample_of(videos.HOSTILE[name]()))


@pytest.mark.parametrize("stage", BOTH)
@pytest.mark.parametrize("name", ["one-pixel.mkv", "zero-duration.mkv"])
def test_odd_files_have_facts(stage: Stage, name: str) -> None:
    sample = kept(run_stage(stage, sample_of(videos.HOSTILE[name]())))
    assert sample.get("media.num_frames") == 5
    assert sample.get("media.seconds") > 0
