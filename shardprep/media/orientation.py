"""How stored frames are turned and mirrored to stand upright, as a display matrix or an EXIF tag says."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

_One = TypeVar("_One", bound=np.generic)

# Those of FFmpeg 8 end at 31, EXIF (libavutil/frame.h).
_SIDE_DATA_KINDS = 40
_FIXED_POINT, _LAST = 1 << 16, 1 << 30


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways a picture can lie: mirrored left to right first where it is, then turned."""

    turns: int = 0
    """Quarter turns counter-clockwise, 0 to 3."""
    is_mirrored: bool = False

    @property
    def is_sideways(self) -> bool:
        """Whether width and height change places."""
        return self.turns % 2 == 1

    @property
    def degrees(self) -> int:
        """Degrees counter-clockwise: 0, 90, 180 or 270."""
        return self.turns * 90

    @property
    def matrix(self) -> tuple[int, ...]:
        """ffmpeg's display matrix, nine integers."""
        cos, sin = (1, 0, -1, 0)[self.turns], (0, -1, 0, 1)[self.turns]
        side = -_FIXED_POINT if self.is_mirrored else _FIXED_POINT
        return (cos * side, sin * side, 0, -sin * _FIXED_POINT, cos * _FIXED_POINT, 0, 0, 0, _LAST)

    def upright(self, image: NDArray[_One]) -> NDArray[_One]:
        """Return a stored image [height, width, ...] as it is seen; the image itself where it lies right."""
        if self.is_mirrored:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, self.turns)) if self.turns or self.is_mirrored else image


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return how a decoded frame lies; angles between quarter turns count as the nearest one."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return UPRIGHT
    # libavutil/display.h: a point (p, q) is shown at (a p + c q, b p + d q), y pointing down.
    a, b, _, c, d, *_ = matrix
    is_mirrored = a * d - b * c < 0
    side = -1 if is_mirrored else 1
    return Orientation(round(-math.atan2(side * b, side * a) / (math.pi / 2)) % 4, is_mirrored)


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    try:
        side_data = _side_data(frame)
    except ValueError:
        side_data = _side_data(_with_known_side_data(frame))
    return next((struct.unpack("=9i", bytes(data)) for data in side_data if data.type == Type.DISPLAYMATRIX), None)


def _side_data(frame: VideoFrame) -> list[SideData]:
    # What PyAV's stub calls one piece of side data is the container of all.
    container: Any = frame.side_data
    return list(container)


def _with_known_side_data(frame: VideoFrame) -> VideoFrame:
    """Return the frame without side data of a kind that PyAV cannot name, such as EXIF: it would show none at all."""
    graph = Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25))
    for kind in range(_SIDE_DATA_KINDS):
        if not _has_name(kind):
            last.link_to(drop := graph.add("sidedata", f"mode=delete:type={kind}"))
            last = drop
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    bare = graph.pull()
    assert isinstance(bare, VideoFrame), "a graph of video filters gives video"
    return bare


def _has_name(kind: int) -> bool:
    try:
        Type(kind)
    except ValueError:
        return False
    return True
