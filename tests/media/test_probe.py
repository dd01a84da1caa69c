"""Facts of a file are what its frames show, not what its header claims."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
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
    assert (facts.colour_range, facts.hdr, facts.num_audio_streams) == ("limited", False, 1)
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
    assert facts_of(videos.encode(frames, options={"x264-params": "transfer=smpte2084"})).hdr


# What ffmpeg's command is asked to make of a test picture, and what ffprobe says of it: codec, profile, pixel format, field order.
FFPROBE = {
    "high.mp4": ("-c:v libx264", "h264", "High", "yuv420p", "progressive"),
    "top-first.mp4": ("-vf interlace -flags +ilme+ildct -c:v libx264", "h264", "High", "yuv420p", "tt"),
    "bottom-first.mkv": ("-vf interlace=scan=bff -flags +ildct -c:v libx264 -x264-params bff=1", "h264", "High", "yuv420p", "bt"),
    "interlaced.mpg": ("-vf interlace -c:v mpeg2video -flags +ildct+ilme", "mpeg2video", "Main", "yuv420p", "tt"),
    "interlaced.mov": ("-vf interlace -c:v prores_ks -flags +ildct", "prores", "HQ", "yuv422p10le", "tb"),
    "interlaced.avi": ("-vf interlace -c:v mpeg4 -flags +ildct", "mpeg4", "Simple Profile", "yuv420p", "unknown"),
    "high10.mp4": ("-c:v libx264 -pix_fmt yuv420p10le", "h264", "High 10", "yuv420p10le", "progressive"),
    "422.mp4": ("-c:v libx264 -pix_fmt yuv422p", "h264", "High 4:2:2", "yuv422p", "progressive"),
    "baseline.mp4": ("-c:v libx264 -profile:v baseline", "h264", "Constrained Baseline", "yuv420p", "progressive"),
    "hevc.mp4": ("-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=none", "hevc", "Main 10", "yuv420p10le", "progressive"),
    "vp9.webm": ("-c:v libvpx-vp9", "vp9", "Profile 0", "yuv420p", "progressive"),
    "vp9-10bit.webm": ("-c:v libvpx-vp9 -pix_fmt yuv420p10le", "vp9", "Profile 2", "yuv420p10le", "progressive"),
    "av1.mkv": ("-c:v libsvtav1", "av1", "Main", "yuv420p", "progressive"),
    "prores.mov": ("-c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le", "prores", "4444", "yuva444p12le", "progressive"),
    "msmpeg4.avi": ("-c:v msmpeg4", "msmpeg4v3", "unknown", "yuv420p", "unknown"),
    "wmv.wmv": ("-c:v wmv2", "wmv2", "unknown", "yuv420p", "unknown"),
    "sorenson.flv": ("-c:v flv", "flv1", "unknown", "yuv420p", "unknown"),
    "xvid.avi": ("-c:v mpeg4 -vtag XVID -bf 2", "mpeg4", "Advanced Simple Profile", "yuv420p", "unknown"),
    "full.avi": ("-c:v mjpeg", "mjpeg", "Baseline", "yuvj420p", "unknown"),
    "ffv1.mkv": ("-c:v ffv1 -pix_fmt bgr0", "ffv1", "unknown", "bgr0", "progressive"),
    "raw.avi": ("-c:v rawvideo -pix_fmt yuv420p", "rawvideo", "unknown", "yuv420p", "unknown"),
    "moving.gif": ("", "gif", "unknown", "bgra", "unknown"),
}


@pytest.mark.parametrize("name", FFPROBE)
def test_codec_profile_pixel_format_and_fields_are_in_ffprobes_words(name: str, tmp_path: Path) -> None:
    options, *expected = FFPROBE[name]
    path = tmp_path / name
    command = f"{imageio_ffmpeg.get_ffmpeg_exe()} -v error -f lavfi -i testsrc2=s=160x120:r=25:d=0.4 {options} {path}"
    subprocess.run(command.split(), check=True, timeout=60, capture_output=True)
    facts = probe(FileBlob(str(path), 0, path.stat().st_size))
    assert [facts.codec, facts.profile, facts.pixel_format, facts.field_order] == expected
    # Fields that the container does not tell of are seen in the first frame.
    assert facts.interlaced == ("interlace" in options)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_gray_image_is_full_range(suffix: str) -> None:
    _, data = cv2.imencode(f".{suffix}", np.arange(256, dtype=np.uint8).reshape(16, 16))
    facts = facts_of(data.tobytes())
    assert (facts.pixel_format, facts.colour_range, facts.num_sizes) == ("gray", "full", 1)


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
        ("av1-640x360.mkv", {"container": "matroska", "num_frames": 125, "codec": "av1", "profile": "Main", "field_order": "progressive"}),
    ],
)
def test_real_files(name: str, expected: dict[str, object], shared: Path) -> None:
    path = shared / "videos" / name
    facts = vars(probe(FileBlob(str(path), 0, path.stat().st_size)))
    assert {key: facts[key] for key in expected} == expected
