"""Pictures come out in their own colours whatever matrix their numbers were made with."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import FramesWanted, Times
from shardprep.media.colours import with_known_matrix
from shardprep.media.container import DecodeError
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.probe import probe

COLOURS = [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 40), (20, 180, 60), (30, 60, 220), (230, 220, 40), (90, 200, 210)]


def bars() -> NDArray[np.float64]:
    """RGB in 0 to 1, [64, 256, 3]: eight bars of 32 pixels."""
    return np.repeat(np.array(COLOURS, float)[None] / 255, 64, axis=0).repeat(32, axis=1)


def bt2020(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear < 0.0181, 4.5 * linear, 1.0993 * linear**0.45 - 0.0993)


def ycgco(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    r, g, b = np.moveaxis(rgb, -1, 0)
    return np.stack([r / 4 + g / 2 + b / 4, -r / 4 + g / 2 - b / 4, (r - b) / 2])


def constant_luminance(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2020's table 4, forwards."""
    grid = np.linspace(0, 1, 20001)
    linear = np.interp(rgb, bt2020(grid), grid)
    luma = bt2020(linear @ (0.2627, 0.6780, 0.0593))
    blue, red = rgb[..., 2] - luma, rgb[..., 0] - luma
    return np.stack([luma, blue / np.where(blue <= 0, 1.9404, 1.5816), red / np.where(red <= 0, 1.7184, 0.9936)])


MATRICES = {"YCgCo": (8, ycgco), "bt2020c": (10, constant_luminance)}


def video(name: str, pixel_format: str) -> bytes:
    """Return the bars as an h264 whose numbers are made with this matrix, in limited range."""
    luma, first, second = MATRICES[name][1](bars())
    planes = np.stack([16 + 219 * luma, 128 + 224 * first, 128 + 224 * second])
    if pixel_format == "yuv444p10le":
        frame = VideoFrame.from_ndarray(np.round(np.moveaxis(planes, 0, -1) * 256).astype(np.uint16), format="yuv444p16le")
        frame = frame.reformat(format=pixel_format)
    else:
        frame = VideoFrame.from_ndarray(np.round(planes).astype(np.uint8), format="yuv444p")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 64, pixel_format
        stream.codec_context.options = {"qp": "1", "x264-params": f"colormatrix={name}"}
        frame = frame if pixel_format != "yuv420p" else frame.reformat(format="yuv420p")
        for k in range(3):
            frame.pts = k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def seen(blob: BytesBlob, colour: str = "rgb") -> list[list[int]]:
    """Return the colours in the middle of the bars."""
    image = decode_frames(blob, [FramesWanted(Times((0.0,)), colour=colour)]).frames[0].images[0]
    return [np.atleast_1d(image[32, 32 * k + 16]).tolist() for k in range(8)]


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_that_the_scaler_does_not_know(name: str, pixel_format: str) -> None:
    blob = BytesBlob(video(name, pixel_format))
    assert np.abs(np.array(seen(blob)) - COLOURS).max() <= 4
    assert np.abs(np.array(seen(blob, "bgr"))[:, ::-1] - COLOURS).max() <= 4
    [clip] = cut_exact(blob, [[(0, 1)]], EncodeSettings(crf=1))
    assert np.abs(np.array(seen(clip.blob)) - COLOURS).max() <= 6
    facts = probe(clip.blob)
    assert (facts.pixel_format, facts.colour_range) == ("yuv420p", "limited")


def test_a_matrix_that_nobody_knows_is_an_error_with_its_name() -> None:
    frame = VideoFrame(64, 64, "yuv420p")
    frame.colorspace = 14
    with pytest.raises(DecodeError, match="ICtCp") as error:
        with_known_matrix(frame)
    assert error.value.reason == "unknown-colours"


@pytest.mark.parametrize("matrix", [0, 3])
def test_a_writers_mistake_is_taken_for_nothing_said(matrix: int) -> None:
    frame = VideoFrame(64, 64, "yuv420p")
    frame.colorspace = matrix
    assert with_known_matrix(frame).reformat(format="rgb24").format.name == "rgb24"
