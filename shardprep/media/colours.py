"""How the numbers of a frame stand for colours: their range, and the matrices that ffmpeg's scaler does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from shardprep.media.container import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# AVColorSpace, the numbers of ITU-T H.273, table 4: what swscale turns into RGB; 2 is "nobody said".
_KNOWN = frozenset({1, 2, 4, 5, 6, 7, 9})
_UNSPECIFIED, _YCGCO, _BT2020_CONSTANT = 2, 8, 10
# RGB on a frame of YUV, and a reserved number: writers' mistakes, which players take for "nobody said".
_MEANINGLESS = frozenset({0, 3})
_NAMES = {11: "SMPTE ST 2085", 12: "derived from primaries", 13: "derived from primaries, constant luminance", 14: "ICtCp"}


def is_full_range(frame: VideoFrame) -> bool:
    """Return whether black is 0 and white 255, as in RGB, yuvj, gray that does not say otherwise, and where the stream says so."""
    if int(frame.color_range) in (ColorRange.JPEG, ColorRange.MPEG):
        return int(frame.color_range) == ColorRange.JPEG or frame.format.is_rgb
    return frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya8", "ya16"))


def with_known_matrix(frame: VideoFrame) -> VideoFrame:
    """Return the frame itself where swscale knows its colour matrix, else as RGB of 16 bits with the frame's primaries and transfer.

    Raises DecodeError `unknown-colours` for a matrix that nobody here knows.
    """
    matrix = int(frame.colorspace)
    if matrix in _KNOWN or frame.format.is_rgb:
        return frame
    if matrix in _MEANINGLESS or len(frame.format.components) < 3:
        frame.colorspace = _UNSPECIFIED
        return frame
    if matrix not in (_YCGCO, _BT2020_CONSTANT):
        raise DecodeError(
            "unknown-colours", f"colour matrix {matrix} ({_NAMES.get(matrix, 'unknown')}) is none that can be turned into RGB"
        )
    luma, blue, red = _samples(frame, is_full_range(frame))
    rgb = _from_ycgco(luma, blue, red) if matrix == _YCGCO else _from_constant_luminance(luma, blue, red)
    known = VideoFrame.from_ndarray(np.round(np.clip(rgb, 0, 1) * 65535).astype(np.uint16), format="rgb48le")
    known.color_primaries, known.color_trc = frame.color_primaries, frame.color_trc
    return known


def _samples(frame: VideoFrame, is_full: bool) -> list[NDArray[np.float64]]:
    """Return luma in 0 to 1 and the two chromas in -0.5 to 0.5, all of the size of the frame (H.273, 8.3)."""
    bits = frame.format.components[0].bits
    depth = next(depth for depth in (8, 10, 12, 16) if bits <= depth)
    name = "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    matrix = frame.colorspace
    # The matrix is the same on both sides: the scaler makes the chroma as large as the luma and changes nothing else.
    frame.colorspace = Colorspace.ITU709
    try:
        even = VideoReformatter().reformat(frame, format=name, threads=1)
    finally:
        frame.colorspace = matrix
    planes = [_plane(even, index, depth) for index in range(3)]
    step, most = 2.0 ** (depth - 8), 2.0**depth - 1
    luma = planes[0] / most if is_full else (planes[0] - 16 * step) / (219 * step)
    return [luma, *((plane - 128 * step) / (most if is_full else 224 * step) for plane in planes[1:])]


def _plane(frame: VideoFrame, index: int, depth: int) -> NDArray[np.float64]:
    plane = frame.planes[index]
    samples = np.frombuffer(memoryview(plane), np.uint8 if depth == 8 else np.dtype("<u2"))
    return samples.reshape(plane.height, -1)[:, : plane.width].astype(np.float64)


def _from_ycgco(luma: NDArray[np.float64], green: NDArray[np.float64], orange: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-T H.273, 8.3, equations for MatrixCoefficients 8."""
    rest = luma - green
    return np.stack([rest + orange, luma + green, rest - orange], axis=-1)


def _from_constant_luminance(luma: NDArray[np.float64], blue: NDArray[np.float64], red: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2020-2, table 4: luma is made from linear light, so green is found in linear light."""
    b = luma + blue * np.where(blue <= 0, 1.9404, 1.5816)
    r = luma + red * np.where(red <= 0, 1.7184, 0.9936)
    g = (_linear(luma) - 0.2627 * _linear(r) - 0.0593 * _linear(b)) / 0.6780
    return np.stack([r, _coded(g), b], axis=-1)


_ALPHA, _BETA = 1.09929682680944, 0.018053968510807


def _linear(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of BT.2020's transfer function."""
    return np.where(coded < 4.5 * _BETA, coded / 4.5, ((np.maximum(coded, 0) + _ALPHA - 1) / _ALPHA) ** (1 / 0.45))


def _coded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear < _BETA, 4.5 * linear, _ALPHA * np.maximum(linear, 0) ** 0.45 - (_ALPHA - 1))
