"""One run over the frames of an open video: in order from the start, or skipping from key frame to key frame."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import av.error

from shardprep.media.container import DecodeError, decoder_words
from shardprep.media.timeline import OnCorrupt, Timeline, decodable_packets

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# A key frame must be this far ahead to be worth a seek: flushing the decoder costs about as much as a few frames.
_MIN_FRAMES_SAVED = 8


class Irregular(Exception):
    """The decoder gives other frames than the packets promised: the timeline must be made by decoding."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded frame with its place in presentation order and its presentation time in units of the time base."""

    index: int
    pts: int
    frame: VideoFrame


class Sweep:
    """Reads the frames of a video that was just opened; one sweep per opening."""

    def __init__(self, container: InputContainer, stream: VideoStream, timeline: Timeline, on_corrupt: OnCorrupt) -> None:
        self._container, self._stream, self._timeline, self._on_corrupt = container, stream, timeline, on_corrupt
        self._pts: list[int] = []
        self._last: Decoded | None = None
        self._damage = ""

    def all_frames(self) -> Iterator[Decoded]:
        """Yield every frame in presentation order, with times that never go back."""
        for frame in self._frames(has_started=False):
            index = len(self._pts)
            pts = self._time_of(frame, index)
            self._pts.append(pts)
            self._last = Decoded(index, pts if self._last is None else max(pts, self._last.pts), frame)
            yield self._last

    def frames_at(self, indices: Iterable[int]) -> Iterator[Decoded]:
        """Yield the frames at ascending `indices`, seeking where that saves decoding.

        Raises Irregular where the frames that come are not those of the timeline.
        """
        index = -1
        frames = self._frames_from(None)
        for target in indices:
            key = self._key_worth_seeking(index, target)
            if key is not None:
                frames, index = self._frames_from(key), self._timeline.keyframes[key] - 1
            while index < target:
                self._last = next(frames, None)
                if self._last is None or self._last.index != index + 1:
                    raise Irregular
                index += 1
            assert self._last is not None, "indices ascend from 0, so a frame was read"
            yield self._last

    def true_timeline(self) -> Timeline:
        """Return the timeline as `all_frames` decoded it: the same object where nothing differs."""
        if not self._pts or self._last is None:
            words = self._damage or "the decoder gave nothing"
            raise DecodeError("no-frames", f"no frame of the {self._timeline.codec} stream could be decoded: {words}")
        decoded = tuple(sorted(self._pts))
        if decoded == self._timeline.pts:
            return self._timeline
        cut_short = decoded[-1] != self._timeline.pts[-1]
        end = decoded[-1] + max(1, self._last.frame.duration) if cut_short else self._timeline.end_pts
        return replace(self._timeline, pts=decoded, end_pts=end, keyframes=(), is_timed=False, can_seek=False)

    def _time_of(self, frame: VideoFrame, index: int) -> int:
        if self._timeline.is_timed and frame.pts is not None:
            return frame.pts
        if index < self._timeline.num_frames:
            return self._timeline.pts[index]
        return self._pts[-1] + max(1, frame.duration) if self._pts else 0

    def _key_worth_seeking(self, index: int, target: int) -> int | None:
        """Return the position of the last key frame up to `target`, where it lies far enough after `index`."""
        if not self._timeline.can_seek:
            return None
        key = bisect.bisect_right(self._timeline.keyframes, target) - 1
        return key if key >= 0 and self._timeline.keyframes[key] > index + _MIN_FRAMES_SAVED else None

    def _frames_from(self, key: int | None) -> Iterator[Decoded]:
        """Yield frames from a key frame on, or from the start, by their times where the timeline has true ones."""
        first = 0 if key is None else self._timeline.keyframes[key]
        if key is not None:
            # A time of presentation: mov and mp4 turn it into one of decoding themselves.
            self._container.seek(self._timeline.pts[first], stream=self._stream)
        known = {pts: i for i, pts in enumerate(self._timeline.pts)} if self._timeline.is_timed else None
        for count, frame in enumerate(self._frames(has_started=key is not None)):
            index = count if known is None else known.get(frame.pts) if frame.pts is not None else None
            if index is None or index >= self._timeline.num_frames:
                raise Irregular
            # Before an open key frame come frames that refer to the one before it: not decodable from here, not asked for.
            if index >= first:
                yield Decoded(index, self._timeline.pts[index], frame)

    def _frames(self, *, has_started: bool) -> Iterator[VideoFrame]:
        """Yield frames as they leave the decoder, until the end or the first damage."""
        try:
            for packet in decodable_packets(self._container, self._stream, has_started=has_started):
                for frame in packet.decode():
                    if frame.is_corrupt:
                        self._note_damage("the decoder marks the next frame as damaged")
                        return
                    yield frame
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            self._note_damage(decoder_words(error), error)

    def _note_damage(self, words: str, error: av.error.FFmpegError | None = None) -> None:
        self._damage = words
        if self._on_corrupt == "fail":
            where = "before the first frame"
            if self._last is not None:
                where = f"after frame {self._last.index} at {float(self._last.pts * self._timeline.time_base):.3f} s"
            raise DecodeError("decode-error", f"{self._timeline.codec}: {words}, {where}") from error
