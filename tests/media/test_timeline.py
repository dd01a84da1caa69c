"""A timeline says when frames are shown, from packets alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.media.container import DecodeError
from shardprep.media.timeline import Timeline, read_packets, read_timeline
from shardprep.testing import videos


def timeline_of(data: bytes) -> Timeline:
    return read_timeline(BytesBlob(data))


def test_times_of_an_even_video() -> None:
    timeline = timeline_of(videos.three_shots())
    assert timeline.num_frames == 96
    assert timeline.seconds == tuple(k / 24 for k in range(96))
    assert (timeline.width, timeline.height, timeline.fps, timeline.container, timeline.codec) == (160, 120, 24.0, "mov", "h264")
    assert timeline.end_seconds == pytest.approx(4, abs=1e-6)
    assert timeline.keyframes[0] == 0


def test_times_of_a_variable_rate_are_the_containers() -> None:
    assert timeline_of(videos.variable_rate()).seconds == pytest.approx(videos.VARIABLE_TIMES, abs=1e-6)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv"])
def test_frames_are_in_presentation_order_in_every_container(container: str) -> None:
    timeline = timeline_of(videos.numbered(30, container=container))
    assert timeline.num_frames == 30
    first = timeline.seconds[0]
    assert [s - first for s in timeline.seconds] == pytest.approx([k / 24 for k in range(30)], abs=1e-3)
    assert timeline.is_timed


def test_an_avi_has_even_times_and_no_seeking() -> None:
    timeline = timeline_of(videos.numbered(30, container="avi"))
    steps = [b - a for a, b in zip(timeline.seconds, timeline.seconds[1:], strict=False)]
    assert steps == pytest.approx([1 / 24] * 29)
    assert not timeline.is_timed
    assert not timeline.can_seek


def test_key_frames_are_found() -> None:
    timeline = timeline_of(videos.numbered(60, key_every=20))
    assert timeline.keyframes == (0, 20, 40)


@pytest.mark.parametrize(("degrees", "width", "height"), [(0, 160, 120), (90, 120, 160), (180, 160, 120), (270, 120, 160)])
def test_size_is_upright(degrees: int, width: int, height: int) -> None:
    timeline = timeline_of(videos.rotated(degrees))
    assert (timeline.width, timeline.height, timeline.orientation.degrees) == (width, height, degrees)


def test_frames_that_begin_between_key_frames_are_left_out() -> None:
    whole = videos.numbered(60, container="mpegts", key_every=20)
    _, packets = read_packets(BytesBlob(whole))
    assert len(packets) == 60
    started_late = whole[whole.index(b"\x47", 188 * 12) :]
    timeline = timeline_of(started_late)
    assert 0 < timeline.num_frames < 60
    assert timeline.keyframes[0] == 0


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("truncated.mp4", "not-a-video", "cut short"),
        ("truncated-after-index.mp4", "truncated", "of 96 are there"),
        ("empty.mp4", "empty-file", "empty"),
        ("text.mp4", "not-a-video", "Invalid data"),
        ("audio-only.mp4", "no-video-stream", "holds audio"),
    ],
)
def test_what_is_no_video_says_so(name: str, reason: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as error:
        timeline_of(videos.HOSTILE[name]())
    assert error.value.reason == reason


def test_a_truncated_video_can_be_kept_up_to_its_end() -> None:
    timeline = read_timeline(BytesBlob(videos.truncated_after_index()), on_corrupt="keep")
    assert 0 < timeline.num_frames < 96


def test_frames_too_large_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(DecodeError, match="160x120") as error:
        read_timeline(BytesBlob(videos.still()), max_pixels=160 * 120 - 1)
    assert error.value.reason == "too-large"


def test_a_late_start_is_kept(shared: Path) -> None:
    path = shared / "videos" / "delayed-start.mp4"
    timeline = read_timeline(FileBlob(str(path), 0, path.stat().st_size))
    assert timeline.seconds[0] == pytest.approx(1.075)
    assert timeline.end_seconds == pytest.approx(1.075 + 24 / 25)
