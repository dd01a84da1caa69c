"""From a decoded frame to the upright, square pixels that stages asked for, each conversion made once per frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from av.video.reformatter import VideoReformatter

from shardprep.core.frames import FramesWanted, Native, Size
from shardprep.media.colours import with_known_matrix
from shardprep.media.resize import Image, resize, square

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from shardprep.media.timeline import Timeline

Colour = Literal["rgb", "bgr", "gray"]
_FORMATS: dict[str, str] = {"rgb": "rgb24", "bgr": "bgr24", "gray": "gray"}


class FramePixels:
    """The pixels of one frame in any size and colour, kept while the frame is the current one."""

    def __init__(self, converter: PixelConverter, frame: VideoFrame) -> None:
        self._converter, self._frame = converter, frame
        self._made: dict[tuple[Size, str], Image] = {}

    def get(self, wanted: FramesWanted) -> Image | None:
        """Return what `wanted` asks for of this frame, upright and read-only; None where it asks for no pixels."""
        if wanted.colour == "none":
            return None
        key = (wanted.size, wanted.colour)
        if key not in self._made:
            native = (Native(), wanted.colour)
            if native not in self._made:
                self._made[native] = _read_only(self._converter.convert(self._frame, wanted.colour))
            self._made[key] = _read_only(resize(self._made[native], wanted.size))
        return self._made[key]


def _read_only(image: Image) -> Image:
    """Return a view that cannot be written to: whoever asks for the same pixels gets the same array."""
    view = image.view()
    view.setflags(write=False)
    return view


class PixelConverter:
    """Turns frames of one video into upright arrays of square pixels; those that change size in mid-stream get the first one's."""

    def __init__(self, timeline: Timeline, threads: int = 1) -> None:
        self._orientation, self._pixel_aspect = timeline.orientation, timeline.pixel_aspect
        self._reformatters: dict[str, VideoReformatter] = {}
        self._size: tuple[int, int] | None = None
        self._threads = threads

    def of(self, frame: VideoFrame) -> FramePixels:
        """Return the pixels of a frame, made when asked for."""
        return FramePixels(self, frame)

    def convert(self, frame: VideoFrame, colour: Colour) -> Image:
        """Return uint8 pixels of the frame as it is shown, full range; equal to OpenCV's decoding for 8-bit video."""
        frame = with_known_matrix(frame)
        self._size = self._size or (frame.width, frame.height)
        width, height = self._size
        # swscale keeps its tables in the reformatter; a new one per frame costs more than the conversion of a small frame
        reformatter = self._reformatters.setdefault(colour, VideoReformatter())
        converted = reformatter.reformat(frame, width, height, _FORMATS[colour], threads=self._threads)
        return square(self._orientation.upright(np.asarray(converted.to_ndarray(), dtype=np.uint8)), self._pixel_aspect)
