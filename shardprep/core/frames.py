"""Which frames a stage wants, as data, and how such wishes select from a video's frames."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, Literal

from shardprep.core.ranges import Points, Range

_GOLDEN = (math.sqrt(5) - 1) / 2


_STAMP_SLACK_SECONDS = 0.0011
# 23.98 is what many write for 24000/1001 = 23.976.
_NTSC_SLACK = 0.005


@dataclass(frozen=True)
class AllFrames:
    """Every frame, in order, one at a time; only for stages that `watch`."""


@dataclass(frozen=True)
class Fractions:
    """One frame at each fraction of the video: index min(int(p * N), N - 1), Open-Sora's rule."""

    points: Points


@dataclass(frozen=True)
class PerSecond:
    """The frame shown at first + k / fps for every k from 0; where that is more than `max_frames`, so many spread evenly over the video."""

    fps: float
    max_frames: Annotated[int, Range(1)] | None = None


@dataclass(frozen=True)
class Stride:
    """Frames skip + k * s, k in [0, num_frames), with s = min(stride, (N - skip) // num_frames); none where s < 1.

    OmniVideo's and ReViSE's rule (`vae_feature_extract.py`): a short video lowers the stride, a shorter one is refused.
    """

    num_frames: int
    stride: Annotated[int, Range(1)] = 1
    skip: Annotated[int, Range(0)] = 0


@dataclass(frozen=True)
class Times:
    """The frame shown at each time, in seconds after the first frame."""

    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Runs:
    """Frames that follow each other, `num_frames` at each of `num_runs` places spread over the video; all frames where there are no more.

    The video is divided into as many equal parts; where in its part a run begins differs from part to part, so that a rhythm in the
    video (every other frame shown twice) does not meet the same beat each time. Runs that meet become one.
    """

    num_runs: int
    num_frames: int


At = AllFrames | Fractions | PerSecond | Runs | Stride | Times


@dataclass(frozen=True)
class Native:
    """Frames as large as they come."""


@dataclass(frozen=True)
class ShortSide:
    """Frames scaled so that the short side has `px` pixels (never up), area filter."""

    px: int


@dataclass(frozen=True)
class LongSide:
    """Frames scaled so that the long side has `px` pixels where it is longer, linear filter: what PySceneDetect 0.7 feeds its detectors."""

    px: int


@dataclass(frozen=True)
class CropResize:
    """Centre crop to the target's aspect, then Pillow's bilinear resize on uint8: OmniVideo's transform."""

    height: Annotated[int, Range(1)]
    width: Annotated[int, Range(1)]


@dataclass(frozen=True)
class ModelSize:
    """Frames as a loaded model's own preparation makes them; not for `Stage.frames`, which are declared before the model is there."""

    height: int
    width: int
    make: Callable[[Any], Any]
    """Turns a whole frame into uint8 [height, width, 3]."""


Size = Native | ShortSide | LongSide | CropResize | ModelSize


@dataclass(frozen=True)
class FramesWanted:
    """A stage's wish: which frames of which member, how large, in which colours."""

    at: At
    size: Size = field(default_factory=Native)
    colour: Literal["rgb", "bgr", "gray", "none"] = "rgb"
    """`none`: times only, no pixels are made."""
    role: str = "video"


@dataclass(frozen=True)
class Frame:
    """One frame: its index in presentation order, its presentation time in seconds and its pixels."""

    index: int
    seconds: float
    image: Any
    """uint8 array [height, width, 3] or [height, width] for gray, upright, in square pixels; None where no pixels were wanted."""
    height: int = 0
    """Height of the frame as it is stored, in pixels, which may change in mid-stream: images have the size of the first."""
    width: int = 0


@dataclass(frozen=True)
class Frames:
    """The frames that one stage asked for of one sample."""

    images: Any
    """uint8 array [num, height, width, 3] (or [num, height, width] for gray), upright, in square pixels; a stage gets it read-only."""
    indices: tuple[int, ...]
    """Indices in presentation order."""
    seconds: tuple[float, ...]
    """Presentation times in seconds, as the container says (the first may be above 0)."""
    num_frames: int
    """Number of frames of the whole video."""
    height: int
    """Height of the upright source in square pixels."""
    width: int


def select_frames(at: At, seconds: Sequence[float]) -> list[int]:
    """Return the indices that `at` selects from frames shown at `seconds` (ascending); empty where it refuses."""
    count = len(seconds)
    if not count:
        return []
    match at:
        case AllFrames():
            return list(range(count))
        case Fractions(points):
            return [min(int(point * count), count - 1) for point in points]
        case Times(wanted):
            return [_shown_at(seconds, seconds[0] + time) for time in wanted]
        case Stride(num_frames, stride, skip):
            step = min(stride, (count - skip) // num_frames)
            return [skip + k * step for k in range(num_frames)] if step >= 1 else []
        case Runs():
            return _runs(at, count)
        case PerSecond():
            return _per_second(at, seconds)


def crop_box(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int, int, int]:
    """Return (top, left, crop height, crop width) of the largest centred box with the target's aspect.

    torchvision's CenterCrop rounds half to even; so do we (OmniVideo `transform_frames_to_tensor`).
    """
    ratio = target_width / target_height
    crop_height, crop_width = (int(width / ratio), width) if width < height * ratio else (height, int(height * ratio))
    return round((height - crop_height) / 2), round((width - crop_width) / 2), crop_height, crop_width


def _runs(at: Runs, count: int) -> list[int]:
    if count <= at.num_runs * at.num_frames:
        return list(range(count))
    # The fractional parts of multiples of the golden ratio fill an interval evenly and repeat no pattern.
    places = ((k + (k + 1) * _GOLDEN % 1) / at.num_runs for k in range(at.num_runs))
    firsts = [int(place * (count - at.num_frames + 1)) for place in places]
    return sorted({first + k for first in firsts for k in range(at.num_frames)})


def frame_rate(fps: float) -> Fraction:
    """Return the rate that a number means: 29.97 (and 23.976, 23.98, 59.94…) is NTSC's 30000/1001, as nobody films at 29.97."""
    ntsc = Fraction(1000 * round(fps * 1.001), 1001)
    is_ntsc = abs(fps - ntsc) < _NTSC_SLACK and abs(fps - round(fps)) > _NTSC_SLACK
    if is_ntsc:
        return ntsc
    return Fraction(fps).limit_denominator(1001) if fps >= 1 else 1 / Fraction(1 / fps).limit_denominator(1001)


def _per_second(at: PerSecond, seconds: Sequence[float]) -> list[int]:
    fps = float(frame_rate(at.fps))
    span = seconds[-1] - seconds[0]
    num = int((span + _slack(seconds)) * fps) + 1
    if at.max_frames is not None and num > at.max_frames:
        times = [seconds[0] + span * k / max(1, at.max_frames - 1) for k in range(at.max_frames)]
    else:
        times = [seconds[0] + k / fps for k in range(num)]
    return [_shown_at(seconds, time) for time in times]


def _shown_at(seconds: Sequence[float], time: float) -> int:
    return max(0, bisect.bisect_right(seconds, time + _slack(seconds)) - 1)


def _slack(seconds: Sequence[float]) -> float:
    """Return how much later than asked for a frame may be stamped: the rounding of its time and of the first one's.

    Matroska, FLV and ASF count whole milliseconds; with frames so short that this is much, it is a quarter of one.
    """
    usual = (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
    return min(_STAMP_SLACK_SECONDS, usual / 4) or 5e-7
