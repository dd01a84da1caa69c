"""Facts of a video or image: size, rate, length, codec, colours, sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from shardprep.core.frames import AllFrames, Frame, FramesWanted
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.sample import Member, Sample
from shardprep.core.stage import ColumnType, Stage

if TYPE_CHECKING:
    from shardprep.media.timeline import Timeline

MEDIA_COLUMNS: Mapping[str, ColumnType] = {
    "media.width": "int64",
    "media.height": "int64",
    "media.fps": "double",
    "media.is_vfr": "bool",
    "media.num_frames": "int64",
    "media.seconds": "double",
    "media.start_seconds": "double",
    "media.container": "string",
    "media.codec": "string",
    "media.profile": "string",
    "media.pixel_format": "string",
    "media.field_order": "string",
    "media.interlaced": "bool",
    "media.num_sizes": "int64",
    "media.rotation": "int64",
    "media.is_mirrored": "bool",
    "media.aspect": "double",
    "media.colour_range": "string",
    "media.hdr": "bool",
    "media.num_audio_streams": "int64",
    "media.bit_rate": "int64",
    "media.bytes": "int64",
}
"""Facts about one file; `media.probe.MediaFacts` says what each one means."""


@dataclass(frozen=True, kw_only=True)
class ProbeMedia(Stage):
    """Write down the facts of a video or image: upright width and height, frames, seconds, codec, colour range, sound."""

    count: Literal["decode", "packets"] = "decode"
    """`decode`: count the frames that come out, and fail a video that is damaged anywhere; `packets`: believe the container.

    With `packets` `media.num_sizes` is null: only decoding tells whether the resolution changes in mid-stream."""

    version = 2
    writes = MEDIA_COLUMNS

    @property
    def frames(self) -> FramesWanted | None:
        return FramesWanted(AllFrames(), colour="none") if self.count == "decode" else None

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        from shardprep.media.probe import probe

        return [Kept(sample.with_columns(probe(_member(sample).blob).columns())) for sample in batch]

    def watch(self, sample: Sample) -> FrameCounter:
        return FrameCounter(sample)


class FrameCounter:
    """Counts the frames of one sample and when each is shown."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._seconds: list[float] = []
        self._num_sizes = 0
        self._size = (0, 0)

    def see(self, frame: Frame) -> None:
        self._seconds.append(frame.seconds)
        if (frame.width, frame.height) != self._size:
            self._size = (frame.width, frame.height)
            self._num_sizes += 1

    def finish(self) -> Outcome:
        from shardprep.media.probe import probe
        from shardprep.media.timeline import read_timeline

        blob = _member(self._sample).blob
        timeline = read_timeline(blob, on_corrupt="keep")
        return Kept(self._sample.with_columns(probe(blob, self._as_seen(timeline), num_sizes=self._num_sizes).columns()))

    def _as_seen(self, timeline: Timeline) -> Timeline:
        """Return the timeline with the frames that came out of the decoder."""
        if len(self._seconds) == timeline.num_frames:
            return timeline
        pts = tuple(round(seconds / timeline.time_base) for seconds in self._seconds)
        frame = timeline.pts[1] - timeline.pts[0] if timeline.num_frames > 1 else 1
        return replace(timeline, pts=pts, end_pts=timeline.end_pts if pts[-1] == timeline.pts[-1] else pts[-1] + frame)


def _member(sample: Sample) -> Member:
    return sample.members.get("video") or sample.members["image"]
