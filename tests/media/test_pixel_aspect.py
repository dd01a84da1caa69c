"""Pixels that are not square: read from the container where the codec is silent, and made square for stages and clips."""

from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from shardprep.core.blob import Blob, BytesBlob
from shardprep.core.frames import CropResize, FramesWanted, Native, ShortSide, Size, Times
from shardprep.media.container import DecodeError
from shardprep.media.copy_cut import cut_copy
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.probe import probe
from shardprep.media.resize import square_size
from shardprep.media.timeline import read_timeline
from shardprep.testing import videos

PAL_WIDE = Fraction(64, 45)
"""Of 720x576 shown as 16:9."""


def circle_video(
    height: int, width: int, pixel_aspect: Fraction, *, says: Fraction | None = None, rotation: int = 0, **settings: str
) -> bytes:
    """Return a video of a disc that is round when its pixels have this aspect; the header may say another one."""
    picture = np.full((height, width, 3), 30, np.uint8)
    radius = height / 3
    axes = (round(radius / pixel_aspect), round(radius))
    cv2.ellipse(picture, (width // 2, height // 2), axes, 0, 0, 360, (240, 240, 240), -1, cv2.LINE_AA)
    return videos.encode([picture] * 6, pixel_aspect=says or pixel_aspect, rotation=rotation, **settings)


def with_aspect(data: bytes, aspect: Fraction, folder: Path, name: str) -> Blob:
    """Return the video copied into another container that says how it is shown, as `ffmpeg -c copy -aspect` does."""
    (folder / "in.mkv").write_bytes(data)
    command = ["-i", folder / "in.mkv", "-c", "copy", "-aspect", f"{aspect.numerator}:{aspect.denominator}", folder / name]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *command], check=True)
    return BytesBlob((folder / name).read_bytes())


def roundness(image: np.ndarray) -> float:
    """Return width over height of the disc."""
    inside = image[..., 0] > 128 if image.ndim == 3 else image > 128
    return (inside.any(axis=0).sum()) / (inside.any(axis=1).sum())


def shown(blob: Blob, size: Size, **settings: str) -> np.ndarray:
    return decode_frames(blob, [FramesWanted(Times((0.0,)), size)], **settings).frames[0].images[0]


CONTAINER_ONLY = {
    "vp9.webm": {"codec": "libvpx-vp9"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "av1.mkv": {"codec": "libsvtav1"},
    "h264.mkv": {"codec": "libx264"},
}


def container_only(name: str, folder: Path) -> Blob:
    """Return a video whose codec says nothing of the aspect, or that the pixels are square."""
    squeezed = circle_video(144, 180, PAL_WIDE, says=Fraction(1), container="matroska", **CONTAINER_ONLY[name])
    return with_aspect(squeezed, Fraction(16, 9), folder, name)


@pytest.mark.parametrize("kind", CONTAINER_ONLY)
def test_an_aspect_that_only_the_container_knows(kind: str, tmp_path: Path) -> None:
    blob = container_only(kind, tmp_path)
    facts = probe(blob)
    assert (facts.width, facts.height) == (180, 144)
    assert facts.aspect == pytest.approx(16 / 9, rel=0.002)
    assert shown(blob, Native()).shape == (144, 256, 3)
    assert roundness(shown(blob, Native())) == pytest.approx(1, abs=0.03)
    (clip,) = cut_exact(blob, [[(0.0, 1.0)]], EncodeSettings())
    facts = probe(clip.blob)
    assert (facts.width, facts.height) == (256, 144)
    assert facts.aspect == pytest.approx(16 / 9, rel=0.002)
    assert roundness(shown(clip.blob, Native())) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("kind", ["vp9.webm", "av1.mkv", "h264.mkv"])
def test_a_copied_clip_keeps_the_aspect(kind: str, tmp_path: Path) -> None:
    (clip,) = cut_copy(container_only(kind, tmp_path), [[(0.0, 1.0)]])
    assert probe(clip.blob).aspect == pytest.approx(16 / 9, rel=0.002)


def test_an_aspect_that_the_copy_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"pixels of 64:45.*mode: exact") as raised:
        cut_copy(container_only("prores.mov", tmp_path), [[(0.0, 1.0)]])
    assert raised.value.reason == "aspect-not-copied"


@pytest.mark.parametrize("size", [Native(), ShortSide(96), CropResize(96, 160)])
@pytest.mark.parametrize("colour", ["rgb", "gray"])
def test_a_circle_stays_round_in_every_size(size: Size, colour: str) -> None:
    blob = BytesBlob(circle_video(576, 720, PAL_WIDE))
    frames = decode_frames(blob, [FramesWanted(Times((0.0,)), size, colour if size != CropResize(96, 160) else "rgb")]).frames[0]
    assert (frames.height, frames.width) == (576, 1024)
    assert roundness(frames.images[0]) == pytest.approx(1, abs=0.03)


def test_both_decoders_square_alike() -> None:
    pytest.importorskip("decord")
    blob = BytesBlob(circle_video(144, 180, PAL_WIDE))
    assert np.array_equal(shown(blob, ShortSide(96)), shown(blob, ShortSide(96), decoder="decord"))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("square", [True, False])
def test_a_turned_anamorphic_video_gives_round_clips(rotation: int, square: bool) -> None:
    blob = BytesBlob(circle_video(144, 180, PAL_WIDE, rotation=rotation))
    source = probe(blob)
    upright = 16 / 9 if rotation in (0, 180) else 9 / 16
    assert source.aspect == pytest.approx(upright)
    (clip,) = cut_exact(blob, [[(0.0, 1.0)]], EncodeSettings(square_pixels=square))
    facts = probe(clip.blob)
    assert facts.aspect == pytest.approx(upright)
    stored = (256, 144) if square else (180, 144)
    assert (facts.width, facts.height) == (stored if rotation in (0, 180) else stored[::-1])
    assert roundness(shown(clip.blob, Native())) == pytest.approx(1, abs=0.03)


def test_tall_pixels_make_pictures_taller() -> None:
    blob = BytesBlob(circle_video(120, 176, Fraction(10, 11)))
    assert shown(blob, Native()).shape == (132, 176, 3)
    (clip,) = cut_exact(blob, [[(0.0, 1.0)]], EncodeSettings())
    assert (probe(clip.blob).width, probe(clip.blob).height) == (176, 132)


def test_a_scaled_clip_is_squared_first() -> None:
    (clip,) = cut_exact(BytesBlob(circle_video(576, 720, PAL_WIDE)), [[(0.0, 1.0)]], EncodeSettings(short_side_px=288))
    assert (probe(clip.blob).width, probe(clip.blob).height) == (512, 288)


def test_nobody_means_a_sixteenfold_aspect() -> None:
    data = circle_video(48, 64, Fraction(16))
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 16
    assert read_timeline(BytesBlob(data)).shown_size == (48, 64)


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(1), (576, 720)), (PAL_WIDE, (576, 1024)), (Fraction(8, 9), (648, 720)), (Fraction(16, 15), (576, 768))]
)
def test_square_size(aspect: Fraction, size: tuple[int, int]) -> None:
    assert square_size(576, 720, aspect) == size
