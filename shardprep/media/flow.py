"""Optical flow between neighbouring frames: how fast a picture moves, independent of its size, its length and the frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from shardprep.media.resize import Image

REFERENCE_SHORT_SIDE = 320
"""Speeds are given for a picture whose short side has this many pixels."""

MIN_SIDE_PX = 16
"""DIS matches patches of 8 pixels on a pyramid: smaller pictures have no flow."""

Preset = Literal["ultrafast", "fast", "medium"]
_PRESETS: dict[str, int] = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}

Flow = tuple[NDArray[np.float32], NDArray[np.float32]]
"""float32 [height, width] each: how far each pixel moves to the right, and how far down, in pixels."""

# Of the least-squares step: blur, so that gradients and interpolation are true at this scale; side of the window; damping where nothing
# is to be seen, in squared gray values per pixel.
_BLUR_SIGMA, _WINDOW_PX, _DAMPING = 2.0, 15, 0.2


@dataclass(frozen=True)
class PairSpeed:
    """How fast the picture moves from one frame to the next, and how long that takes."""

    px_per_second: float
    """The mean over all pixels, at a short side of 320 px."""
    seconds: float


def pair_speeds(grays: Sequence[Image], indices: Sequence[int], seconds: Sequence[float], preset: Preset = "fast") -> list[PairSpeed]:
    """Return the speed between each two of the frames that follow each other in the video: whose indices differ by one.

    Two frames of one time give no value; pictures with a side below 16 px have none.
    """
    dis = cv2.DISOpticalFlow.create(_PRESETS[preset])
    speeds = []
    for k in range(len(grays) - 1):
        gap = seconds[k + 1] - seconds[k]
        if indices[k + 1] == indices[k] + 1 and gap > 0 and min(grays[k].shape) >= MIN_SIDE_PX:
            scale = REFERENCE_SHORT_SIDE / min(grays[k].shape)
            speeds.append(PairSpeed(_mean_length(dense_flow(grays[k], grays[k + 1], dis)) * scale / gap, gap))
    return speeds


def mean_speed(speeds: Sequence[PairSpeed]) -> float | None:
    """Return the way of all pairs over the time of all pairs: frames of uneven length count by their length. None without pairs."""
    if not speeds:
        return None
    return sum(speed.px_per_second * speed.seconds for speed in speeds) / sum(speed.seconds for speed in speeds)


def dense_flow(earlier: Image, later: Image, dis: cv2.DISOpticalFlow) -> Flow:
    """Return the flow of the part of the picture that both frames show, in three steps.

    The whole picture's shift by phase correlation (Kuglin and Hines 1975), so that a fast pan is in reach. Dense inverse search
    (Kroeger et al. 2016, OpenCV's DIS) for the rest. One least-squares step (Lucas and Kanade 1981) on blurred floats: DIS works
    on 8 bits with Sobel gradients and is a tenth to a quarter off where frames differ by a fraction of a pixel.
    """
    shift = _shift(earlier, later)
    earlier, later = _overlap(earlier, later, shift)
    found = dis.calc(earlier, later, None)
    right, down = _refined(earlier, later, (found[..., 0], found[..., 1]))
    return right + np.float32(shift[0]), down + np.float32(shift[1])


def _mean_length(flow: Flow) -> float:
    right, down = flow
    # Not cv2.magnitude: its last bit depends on where the array lies.
    return float(np.sqrt(right * right + down * down).mean(dtype=np.float64))


def _shift(earlier: Image, later: Image) -> tuple[int, int]:
    """Return how far the whole picture moves to the right and down, in whole pixels; (0, 0) where it does not move as a whole."""
    height, width = earlier.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(earlier.astype(np.float32), later.astype(np.float32), window)
    shift = (round(right), round(down))
    if abs(shift[0]) > width // 2 or abs(shift[1]) > height // 2:
        return 0, 0
    here, there = _overlap(earlier, later, shift)
    is_better = min(here.shape) >= MIN_SIDE_PX and cv2.absdiff(here, there).mean() < cv2.absdiff(earlier, later).mean()
    return shift if is_better else (0, 0)


def _overlap(earlier: Image, later: Image, shift: tuple[int, int]) -> tuple[Image, Image]:
    """Return what both frames show, where the later one shows the earlier one's picture shifted to the right and down."""
    height, width = earlier.shape
    right, down = shift
    here = earlier[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    there = later[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
    return np.ascontiguousarray(here), np.ascontiguousarray(there)


def _refined(earlier: Image, later: Image, flow: Flow) -> Flow:
    """Return the flow after one step of Lucas and Kanade: the least-squares correction in a window around each pixel, at most a pixel."""
    height, width = earlier.shape
    here, there = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), _BLUR_SIGMA) for image in (earlier, later))
    column, row = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    # Bilinear is exact in OpenCV's float path; its cubic one knows 32 places between two pixels.
    moved = cv2.remap(there, column + flow[0], row + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    mean, change = (here + moved) / 2, moved - here
    dx, dy = cv2.filter2D(mean, -1, kernel), cv2.filter2D(mean, -1, kernel.T)
    xx, yy, xy, xt, yt = (
        cv2.boxFilter(product, -1, (_WINDOW_PX, _WINDOW_PX)) for product in (dx * dx, dy * dy, dx * dy, dx * change, dy * change)
    )
    xx, yy = xx + _DAMPING, yy + _DAMPING
    determinant = xx * yy - xy * xy
    right, down = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
    return flow[0] + np.clip(right, -1, 1), flow[1] + np.clip(down, -1, 1)
