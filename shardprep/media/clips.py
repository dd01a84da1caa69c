"""What cutting a video into clips takes and gives: intervals by presentation time, and one result per clip."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from shardprep.core.blob import Blob
from shardprep.core.frames import frame_rate
from shardprep.media.container import DecodeError
from shardprep.media.timeline import Timeline

Intervals = Sequence[tuple[float, float]]
"""Half-open (start, end) in presentation seconds of the source; a clip is an ordered list of them, usually one."""

# Half a microsecond: a time that went through text or a float32 still names its frame.
_SLACK_SECONDS = 5e-7


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A finished clip and the intervals that it really holds: from a frame's appearance to the end of another."""

    blob: Blob
    suffix: str
    intervals: tuple[tuple[float, float], ...]


ClipResult = Clip | DecodeError
"""A clip, or why there is none."""


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A source frame's place in a clip: shown from `pts` for `duration`, in units of the clip's time base."""

    index: int
    pts: int
    duration: int


@dataclass(frozen=True)
class Run:
    """Consecutive frames `[first, stop)` of the source."""

    first: int
    stop: int


def runs_of(intervals: Intervals, timeline: Timeline) -> list[Run]:
    """Return the frames shown in each interval: start <= time < end; intervals without a frame are left out."""
    seconds = timeline.seconds
    slack = max(_SLACK_SECONDS, float(_stamp_slack(timeline) * timeline.time_base))
    found = [Run(bisect.bisect_left(seconds, start - slack), bisect.bisect_left(seconds, end - slack)) for start, end in intervals]
    return [run for run in found if run.first < run.stop]


def _stamp_slack(timeline: Timeline) -> int:
    """Return by how many ticks a frame may be stamped off its time: one, by rounding, but none where a tick is no small part of a frame."""
    return 1 if timeline.pts[-1] - timeline.pts[0] >= 4 * (timeline.num_frames - 1) > 0 else 0


def end_of_frame(index: int, timeline: Timeline) -> int:
    """Return when a frame's display ends, in units of the timeline's time base."""
    return timeline.pts[index + 1] if index + 1 < timeline.num_frames else timeline.end_pts


def true_intervals(runs: Sequence[Run], timeline: Timeline) -> tuple[tuple[float, float], ...]:
    """Return from when to when the frames of each run are shown, in seconds."""
    return tuple(
        (float(timeline.pts[run.first] * timeline.time_base), float(end_of_frame(run.stop - 1, timeline) * timeline.time_base))
        for run in runs
    )


def place_frames(runs: Sequence[Run], timeline: Timeline, fps: float | None) -> tuple[list[PlacedFrame], Fraction]:
    """Return the frames of a clip and their time base: at their own times, or at `fps` each time the frame then shown."""
    if fps is None:
        return _own_times(runs, timeline), timeline.time_base
    rate = frame_rate(fps)
    return _even_times(runs, timeline, rate), 1 / rate


def _own_times(runs: Sequence[Run], timeline: Timeline) -> list[PlacedFrame]:
    placed: list[PlacedFrame] = []
    base = 0
    for run in runs:
        start = timeline.pts[run.first]
        for index in range(run.first, run.stop):
            shown = timeline.pts[index]
            # Encoders want times that ascend; a broken file may show two frames at once.
            pts = max(base + shown - start, placed[-1].pts + 1 if placed else 0)
            placed.append(PlacedFrame(index, pts, max(1, end_of_frame(index, timeline) - shown)))
        base += end_of_frame(run.stop - 1, timeline) - start
    return placed


def _even_times(runs: Sequence[Run], timeline: Timeline, rate: Fraction) -> list[PlacedFrame]:
    placed: list[PlacedFrame] = []
    slack = _stamp_slack(timeline)
    for run in runs:
        start = timeline.pts[run.first]
        span = (end_of_frame(run.stop - 1, timeline) - start) * timeline.time_base
        base = len(placed)
        for tick in range(max(1, round(span * rate))):
            # Rounded to the source's ticks, as containers cannot hold 1/24 s exactly; down where a tick is as long as a frame.
            offset = tick / rate / timeline.time_base
            time = start + (round(offset) + slack if slack else math.floor(offset))
            index = bisect.bisect_right(timeline.pts, time, run.first, run.stop) - 1
            placed.append(PlacedFrame(max(run.first, index), base + tick, 1))
    return placed
