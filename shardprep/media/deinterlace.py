"""Making whole pictures of interlaced frames, which hold two moments, line by line."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

if TYPE_CHECKING:
    from av.filter.context import FilterContext

Deinterlace = Literal["auto", "never", "always"]
"""`auto`: the frames that say that they are interlaced; `always`: all, for sources that do not say so."""


class Deinterlacer:
    """ffmpeg's bwdif: one frame for each frame, the first field's moment; it looks one frame ahead."""

    def __init__(self, first: VideoFrame, *, is_always: bool) -> None:
        self._size = (first.width, first.height, first.format.name)
        self._graph = Graph()
        source = self._graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 25))
        bwdif: FilterContext = self._graph.add("bwdif", f"mode=send_frame:deint={'all' if is_always else 'interlaced'}")
        sink = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._count = 0

    def take(self, frame: VideoFrame | None) -> list[VideoFrame]:
        """Return the frames that are ready after the next one; None stands for the end and gives the rest."""
        if frame is not None:
            # A frame that changes size in mid-stream is brought to the first one's.
            frame = frame.reformat(*self._size) if (frame.width, frame.height, frame.format.name) != self._size else frame
            frame.pts, frame.time_base = self._count, Fraction(1, 25)
            self._count += 1
        self._graph.push(frame)
        ready: list[VideoFrame] = []
        while True:
            try:
                pulled = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready
            assert isinstance(pulled, VideoFrame), "a graph of video filters gives video"
            ready.append(pulled)
