"""Interlaced frames become whole pictures: one for each, at its time, without combs."""

from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.core.frames import AllFrames, FramesWanted
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.probe import probe
from shardprep.testing import videos

SPEED = 6
"""Pixels from field to field."""


def moment(k: int) -> NDArray[np.uint8]:
    """The picture at the k-th field's time: bars that move to the right."""
    x = np.arange(192) - SPEED * k
    bars = np.where(x // 24 % 2 == 0, 210, 40).astype(np.uint8)
    return np.broadcast_to(bars[None, :, None], (96, 192, 3)).copy()


def woven(count: int, *, is_flagged: bool = True) -> bytes:
    """Frames at 25 per second whose even lines are half a frame later: the bottom field first, as x264 flags it here."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        stream.codec_context.options = {"qp": "4"} | ({"x264-params": "bff=1"} if is_flagged else {})
        for k in range(count):
            image = moment(2 * k)
            image[::2] = moment(2 * k + 1)[::2]
            # Chroma is gray, so that its lines need no weaving.
            frame = VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def pictures(data: bytes, settings: EncodeSettings) -> list[NDArray[np.uint8]]:
    [clip] = cut_exact(BytesBlob(data), [[(0, 100)]], settings)
    found: list[NDArray[np.uint8]] = []
    decode_frames(clip.blob, [FramesWanted(AllFrames(), colour="gray")], {0: lambda frame: found.append(frame.image.copy())})
    return found


def combing(picture: NDArray[np.uint8]) -> float:
    """Return how much neighbouring lines differ more than lines of the same field do."""
    lines = picture.astype(float)
    return float(np.abs(lines[1:-1] - lines[:-2]).mean() - np.abs(lines[2:] - lines[:-2]).mean())


def test_fields_become_whole_pictures_at_their_frames_times() -> None:
    data = woven(20)
    facts = probe(BytesBlob(data))
    assert (facts.interlaced, facts.field_order) == (True, "bb")
    raw, whole = (pictures(data, EncodeSettings(crf=4, deinterlace=how)) for how in ("never", "auto"))
    assert len(raw) == len(whole) == 20
    assert all(combing(picture) > 20 for picture in raw)
    assert all(combing(picture) < 3 for picture in whole)
    for k, picture in enumerate(whole):
        expected = moment(2 * k)[..., 0].astype(int)
        later = moment(2 * k + 1)[..., 0].astype(int)
        assert np.abs(picture[8:-8, 8:-8] - expected[8:-8, 8:-8]).mean() < np.abs(picture[8:-8, 8:-8] - later[8:-8, 8:-8]).mean() / 2


def test_frames_that_do_not_say_that_they_are_interlaced_are_so_only_where_told() -> None:
    data = woven(8, is_flagged=False)
    assert not probe(BytesBlob(data)).interlaced
    assert all(combing(picture) > 20 for picture in pictures(data, EncodeSettings(crf=4)))
    assert all(combing(picture) < 3 for picture in pictures(data, EncodeSettings(crf=4, deinterlace="always")))


def test_a_lower_rate_still_sees_the_frames_between() -> None:
    data = woven(20)
    every, half = (pictures(data, EncodeSettings(crf=4, fps=fps)) for fps in (None, 12.5))
    assert len(half) == 10
    assert all(np.abs(one.astype(int) - other).mean() < 3 for one, other in zip(half, every[::2], strict=True))
    double = pictures(data, EncodeSettings(crf=4, fps=50))
    assert len(double) == 40
    assert all(np.abs(double[2 * k].astype(int) - every[k]).mean() < 3 for k in range(20))


@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_clips_lose_no_frame(count: int) -> None:
    assert len(pictures(woven(count), EncodeSettings(crf=4))) == count


def test_progressive_frames_are_left_as_they_are() -> None:
    data = videos.three_shots()
    one, other = (cut_exact(BytesBlob(data), [[(0, 1)]], EncodeSettings(deinterlace=how))[0] for how in ("auto", "never"))
    assert one.blob.open().read() == other.blob.open().read()


def test_overlapping_clips_are_deinterlaced_each_by_itself() -> None:
    data = woven(20)
    together = cut_exact(BytesBlob(data), [[(0, 0.6)], [(0.2, 0.8)]], EncodeSettings())
    alone = cut_exact(BytesBlob(data), [[(0.2, 0.8)]], EncodeSettings())
    assert together[1].blob.open().read() == alone[0].blob.open().read()


def ran_ffmpeg(arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments.split()]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("top-first.mp4", "-vf interlace=scan=tff -c:v libx264 -qp 6 -x264-params tff=1:bframes=3"),
        ("bottom-first.mpg", "-vf interlace=scan=bff -c:v mpeg2video -q:v 2 -flags +ilme+ildct -bf 2"),
        ("ten-bits.mov", "-vf interlace=scan=tff -c:v prores_ks -flags +ilme+ildct -pix_fmt yuv422p10le"),
    ],
)
def test_pictures_are_those_of_ffmpegs_own_filter(name: str, options: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ran_ffmpeg(f"-f lavfi -i testsrc2=s=320x240:r=50:d=2 {options} {path}")
    decoded = {
        filters: np.frombuffer(ran_ffmpeg(f"-i {path} -vf {filters}format=gray -fps_mode passthrough -f rawvideo -"), np.uint8)
        for filters in ("", "bwdif=mode=send_frame:deint=interlaced,")
    }
    raw, expected = (data.reshape(-1, 240, 320).astype(int) for data in decoded.values())
    [clip] = cut_exact(FileBlob(str(path), 0, path.stat().st_size), [[(0, 100)]], EncodeSettings(crf=2))
    found: list[NDArray[np.uint8]] = []
    decode_frames(clip.blob, [FramesWanted(AllFrames(), colour="gray")], {0: lambda frame: found.append(frame.image.copy())})
    assert len(found) == len(expected) == 50
    assert max(np.abs(found - expected).mean(axis=(1, 2))) < 0.45, "but for what encoding costs"
    assert min(np.abs(found - raw).mean(axis=(1, 2))[1:-1]) > 0.6, "frames that were left alone would be seen"
