"""Pictures and videos stand upright in all eight orientations: as ffmpeg turns them, and Pillow."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageOps

from shardprep.core.blob import Blob, BytesBlob, read_blob
from shardprep.core.frames import FramesWanted, ShortSide, Times
from shardprep.media.container import DecodeError
from shardprep.media.copy_cut import cut_copy
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.orientation import Orientation, orientation_of
from shardprep.media.probe import probe
from shardprep.media.timeline import read_timeline
from shardprep.testing import videos

EIGHT = [Orientation(turns, is_mirrored) for is_mirrored in (False, True) for turns in range(4)]
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def video(orientation: Orientation, *, codec: str = "png", pixel_format: str = "rgb24", container: str = "mov") -> bytes:
    return videos.encode(
        [PICTURE] * 12,
        codec=codec,
        pixel_format=pixel_format,
        container=container,
        rotation=orientation.degrees,
        mirrored=orientation.is_mirrored,
        key_every=4,
        options={"crf": "1"} if codec == "libx264" else {},
    )


def first_frame(blob: Blob, **settings: str) -> np.ndarray:
    return decode_frames(blob, [FramesWanted(Times((0.0,)))], **settings).frames[0].images[0]


def as_ffmpeg_shows(data: bytes, folder: Path, name: str) -> np.ndarray:
    """Return the first frame as the ffmpeg command gives it, which turns upright by itself."""
    (folder / name).write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", folder / name, "-frames:v", "1", folder / "shown.png"]
    subprocess.run(command, check=True)
    return np.asarray(Image.open(folder / "shown.png").convert("RGB"))


@pytest.mark.parametrize(("codec", "pixel_format"), [("png", "rgb24"), ("libx264", "yuv420p")])
@pytest.mark.parametrize("orientation", EIGHT)
def test_a_video_is_shown_as_ffmpeg_shows_it(orientation: Orientation, codec: str, pixel_format: str, tmp_path: Path) -> None:
    data = video(orientation, codec=codec, pixel_format=pixel_format)
    shown = as_ffmpeg_shows(data, tmp_path, "video.mov")
    assert np.array_equal(first_frame(BytesBlob(data)), shown)
    timeline, facts = read_timeline(BytesBlob(data)), probe(BytesBlob(data))
    assert timeline.orientation == orientation
    assert (facts.height, facts.width) == (timeline.height, timeline.width) == shown.shape[:2]
    assert (facts.rotation, facts.is_mirrored) == (orientation.degrees, orientation.is_mirrored)
    assert facts.aspect == pytest.approx(facts.width / facts.height)


@pytest.mark.parametrize("orientation", EIGHT)
def test_the_second_decoder_turns_alike(orientation: Orientation) -> None:
    pytest.importorskip("decord")
    blob = BytesBlob(video(orientation, codec="libx264", pixel_format="yuv420p", container="mp4"))
    assert np.array_equal(first_frame(blob), first_frame(blob, decoder="decord"))


@pytest.mark.parametrize("orientation", EIGHT)
def test_an_exact_clip_is_upright(orientation: Orientation) -> None:
    blob = BytesBlob(video(orientation))
    (clip,) = cut_exact(blob, [[(0.0, 0.5)]], EncodeSettings(crf=1))
    assert read_timeline(clip.blob).orientation == Orientation()
    upright, found = first_frame(blob), first_frame(clip.blob)
    assert found.shape == upright.shape
    # Colours lose half of their resolution.
    assert np.abs(upright.astype(int).mean(axis=2) - found.mean(axis=2)).mean() < 6


@pytest.mark.parametrize(
    ("codec", "pixel_format", "container"),
    [("libx264", "yuv420p", "mp4"), ("libx264", "yuv420p", "matroska"), ("mjpeg", "yuvj420p", "mov")],
)
@pytest.mark.parametrize("orientation", EIGHT)
def test_a_copied_clip_keeps_its_orientation(orientation: Orientation, codec: str, pixel_format: str, container: str) -> None:
    blob = BytesBlob(video(orientation, codec=codec, pixel_format=pixel_format, container=container))
    assert read_timeline(blob).orientation == orientation
    (clip,) = cut_copy(blob, [[(0.0, 0.5)]])
    assert read_timeline(clip.blob).orientation == orientation
    assert np.array_equal(first_frame(clip.blob), first_frame(blob))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_an_image_of_any_mode_is_turned(mode: str) -> None:
    tags = Image.Exif()
    tags[0x112] = 5
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(file, "TIFF" if mode == "CMYK" else "PNG", exif=tags.tobytes())
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))).convert("RGB"))
    assert np.abs(first_frame(BytesBlob(file.getvalue())).astype(int) - shown).max() <= 1


@pytest.mark.parametrize("exif", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_shown_as_pillow_shows_it(kind: str, exif: int) -> None:
    tags = Image.Exif()
    tags[0x112] = exif
    file = io.BytesIO()
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(PICTURE).save(file, kind, exif=tags.tobytes(), **options)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))).convert("RGB"))
    found = first_frame(BytesBlob(file.getvalue()))
    assert found.shape == shown.shape
    assert np.abs(found.astype(int) - shown).max() <= (6 if kind == "JPEG" else 0)
    facts = probe(BytesBlob(file.getvalue()))
    assert (facts.height, facts.width) == shown.shape[:2]
    assert facts.is_mirrored == (exif in (2, 4, 5, 7))


def test_small_frames_stand_upright_too() -> None:
    blob = BytesBlob(video(Orientation(1, True)))
    (small,) = decode_frames(blob, [FramesWanted(Times((0.0,)), ShortSide(12), "gray")]).frames
    assert small.images.shape == (1, 16, 12)
    assert (small.height, small.width) == (128, 96)


def test_angles_between_quarter_turns_count_as_the_nearest() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.set_display_rotation(80)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(PICTURE, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as container:
        assert orientation_of(next(container.decode(video=0))) == Orientation(1)


@pytest.mark.parametrize("orientation", EIGHT)
def test_the_matrix_is_what_the_container_gives_back(orientation: Orientation) -> None:
    data = read_blob(BytesBlob(video(orientation)))
    with av.open(io.BytesIO(data)) as container:
        assert orientation_of(next(container.decode(video=0))) == orientation


def test_a_picture_that_decord_takes_for_another_shape_is_an_error() -> None:
    pytest.importorskip("decord")
    narrow = videos.encode([PICTURE[:64, :48]] * 4)
    with pytest.raises(DecodeError, match=r"decord shows frames of shape \(64, 48, 4\), expected \(64, 48, 3\); use decoder: pyav"):
        first_frame(BytesBlob(narrow), decoder="decord")
