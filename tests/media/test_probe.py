"""Facts of a file are what its frames show, not what its header claims."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.media.probe import MediaFacts, is_variable, probe
from shardprep.testing import videos


def facts_of(data: bytes) -> MediaFacts:
    return probe(BytesBlob(data))


def test_facts_of_an_ordinary_video() -> None:
    data = videos.three_shots()
    facts = facts_of(data)
    assert (facts.width, facts.height, facts.num_frames, facts.fps, facts.is_vfr) == (160, 120, 96, 24.0, False)
    assert facts.seconds == pytest.approx(4)
    assert (facts.container, facts.codec, facts.pixel_format, facts.rotation) == ("mov", "h264", "yuv420p", 0)
    assert (facts.colour_range, facts.is_hdr, facts.num_audio_streams) == ("limited", False, 1)
    assert facts.aspect == pytest.approx(4 / 3)
    assert facts.bytes == len(data)
    assert facts.bit_rate == pytest.approx(8 * len(data) / 4, rel=1e-3)


def test_a_variable_rate_is_seen() -> None:
    facts = facts_of(videos.variable_rate())
    assert facts.is_vfr
    assert facts.fps == pytest.approx(47 / videos.VARIABLE_TIMES[-1])


def test_millisecond_rounding_is_no_variable_rate() -> None:
    assert not facts_of(videos.numbered(60, container="matroska")).is_vfr
    assert not is_variable([round(k * 1000 / 30) for k in range(100)])
    assert is_variable([0, 1000, 2000, 4000])


def test_a_rotated_video_is_upright() -> None:
    facts = facts_of(videos.rotated(90))
    assert (facts.width, facts.height, facts.rotation) == (120, 160, 90)
    assert facts.aspect == pytest.approx(0.75)


def test_pixels_that_are_not_square_count_in_the_aspect() -> None:
    wide = videos.encode(videos.draw([videos.Shot(seconds=0.2)]), options={"x264-params": "sar=2/1"})
    assert facts_of(wide).aspect == pytest.approx(8 / 3)


def test_full_range_and_hdr_are_seen() -> None:
    frames = list(videos.draw([videos.Shot(seconds=0.2)]))
    assert facts_of(videos.encode(frames, pixel_format="yuvj420p")).colour_range == "full"
    assert facts_of(videos.encode(frames, options={"x264-params": "transfer=smpte2084"})).is_hdr


def test_an_image_is_one_frame() -> None:
    _, data = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))
    facts = facts_of(data.tobytes())
    assert (facts.width, facts.height, facts.num_frames, facts.fps, facts.codec) == (40, 30, 1, 0.0, "png")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h264-10bit.mp4", {"pixel_format": "yuv420p10le", "codec": "h264"}),
        ("h265.mp4", {"codec": "hevc", "num_frames": 10}),
        ("full-range-1280x720.mp4", {"colour_range": "full"}),
        ("rotation-270.mov", {"rotation": 90, "width": 320, "height": 568}),
        ("variable-frame-rate.mp4", {"is_vfr": True, "num_frames": 160}),
        ("three-shots-320x180-two-audio.mp4", {"num_audio_streams": 2, "num_frames": 325, "width": 320}),
        ("delayed-start.mp4", {"start_seconds": 1.075}),
        ("av1-640x360.mkv", {"container": "matroska", "num_frames": 125}),
    ],
)
def test_real_files(name: str, expected: dict[str, object], shared: Path) -> None:
    path = shared / "videos" / name
    facts = vars(probe(FileBlob(str(path), 0, path.stat().st_size)))
    assert {key: facts[key] for key in expected} == expected
