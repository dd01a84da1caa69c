"""Exact cutting: the frames of each clip decoded and encoded anew, all clips of a video in one sweep."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shardprep.core.blob import Blob
from shardprep.media.clips import Clip, ClipResult, Intervals, PlacedFrame, place_frames, runs_of, true_intervals
from shardprep.media.container import DecodeError, open_video
from shardprep.media.decode import count_by_decoding
from shardprep.media.deinterlace import Deinterlacer
from shardprep.media.encode import ClipEncoder, ClipTiming, EncodeSettings
from shardprep.media.scratch import Scratch, ScratchFile, muxing
from shardprep.media.sound import cut_sound, sound_packets
from shardprep.media.sweep import Irregular, Sweep
from shardprep.media.timeline import OnCorrupt, Timeline, read_timeline

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def cut_exact(
    blob: Blob, clips: Sequence[Intervals], settings: EncodeSettings, *, timeline: Timeline | None = None, on_corrupt: OnCorrupt = "fail"
) -> list[ClipResult]:
    """Return each clip as an mp4 of h264 in yuv420p with the frames shown in its intervals, or the error that prevented it.

    Frames keep their own times, from 0 on, unless `settings.fps` is set. Only the spans that are cut are decoded, from the
    key frame before each, in one sweep. Equal inputs, settings and library versions give equal bytes.
    Raises DecodeError where the file as a whole cannot be read.
    """
    timeline = timeline or read_timeline(blob, on_corrupt=on_corrupt)
    try:
        return _Cutter(blob, clips, settings, timeline, on_corrupt).cut_all()
    except Irregular:
        counted = count_by_decoding(blob, timeline, on_corrupt)
        return _Cutter(blob, clips, settings, counted, on_corrupt).cut_all()


class _Cutter:
    """Cuts the clips of one video."""

    def __init__(self, blob: Blob, clips: Sequence[Intervals], settings: EncodeSettings, timeline: Timeline, on_corrupt: OnCorrupt) -> None:
        self._blob, self._settings, self._timeline, self._on_corrupt = blob, settings, timeline, on_corrupt
        self._runs = [runs_of(intervals, timeline) for intervals in clips]
        self._results: dict[int, ClipResult] = {
            i: DecodeError("no-frames-inside", f"no frame is shown in {list(clips[i])}") for i, runs in enumerate(self._runs) if not runs
        }
        # Frame threads report damage some frames late; one thread tells the same last good frame every time.
        self._threads = 1 if on_corrupt == "keep" else settings.threads
        self._scratch = Scratch()
        wanted = [true_intervals(runs, timeline) for runs in self._runs]
        self._sounds: list[Blob | None] = cut_sound(blob, wanted, on_corrupt=on_corrupt) if settings.keep_audio else [None] * len(clips)

    def cut_all(self) -> list[ClipResult]:
        """Return one result per clip, in order."""
        while pending := [i for i in range(len(self._runs)) if i not in self._results]:
            self._sweep(pending)
        return [self._results[i] for i in range(len(self._runs))]

    def _sweep(self, pending: Sequence[int]) -> None:
        """Cut the pending clips; damage fails those that it touches, and the next sweep begins behind it."""
        needed: list[int] = []
        position = -1
        with ExitStack() as stack, open_video(self._blob, threads=self._threads) as (container, stream):
            uses = self._uses(pending, stack)
            needed = sorted(uses)
            try:
                for decoded in Sweep(container, stream, self._timeline, self._on_corrupt).frames_at(needed):
                    position = decoded.index
                    for clip, places in uses.pop(position):
                        clip.add(decoded.frame, places)
                        if clip.is_done:
                            self._results[clip.number] = self._finish(clip)
            except DecodeError as error:
                self._fail(needed[bisect.bisect_right(needed, position)], error)

    def _uses(self, pending: Sequence[int], stack: ExitStack) -> dict[int, list[tuple[_OpenClip, list[PlacedFrame]]]]:
        """Return which frames go where."""
        uses: dict[int, list[tuple[_OpenClip, list[PlacedFrame]]]] = {}
        for number in pending:
            clip = self._open_clip(number, stack)
            for index, places in clip.frames.items():
                uses.setdefault(index, []).append((clip, places))
        return uses

    def _open_clip(self, number: int, stack: ExitStack) -> _OpenClip:
        frames, time_base = place_frames(self._runs[number], self._timeline, self._settings.fps)
        span = float((frames[-1].pts + frames[-1].duration) * time_base)
        timing = ClipTiming(
            time_base=time_base,
            fps=self._settings.fps or (self._timeline.fps if len(frames) > 1 else 0) or len(frames) / span,
            orientation=self._timeline.orientation,
            pixel_aspect=self._timeline.pixel_aspect,
            is_interlaced=self._settings.deinterlace == "always" or (self._settings.deinterlace == "auto" and self._timeline.interlaced),
        )
        places: dict[int, list[PlacedFrame]] = {}
        if timing.is_interlaced:
            # Lines are filled in from the frames before and after, also where a lower rate leaves these out.
            places = {index: [] for run in self._runs[number] for index in range(run.first, run.stop)}
        for placed in frames:
            places.setdefault(placed.index, []).append(placed)
        return _OpenClip(number, places, self._settings, timing, self._sounds[number], stack.enter_context(ExitStack()))

    def _finish(self, clip: _OpenClip) -> Clip:
        intervals = true_intervals(self._runs[clip.number], self._timeline)
        return Clip(blob=clip.finish(self._scratch), suffix="mp4", intervals=intervals)

    def _fail(self, target: int, error: DecodeError) -> None:
        """Fail the clips that cannot be decoded without what lies right before frame `target`."""
        for number, runs in enumerate(self._runs):
            first = min((run.first for run in runs), default=0)
            key = bisect.bisect_right(self._timeline.keyframes, first) - 1
            is_behind = self._timeline.can_seek and key >= 0 and self._timeline.keyframes[key] > target
            if number not in self._results and not is_behind:
                self._results[number] = error


class _OpenClip:
    """A clip on its way: its file and encoder exist from its first frame on."""

    def __init__(
        self,
        number: int,
        frames: Mapping[int, list[PlacedFrame]],
        settings: EncodeSettings,
        timing: ClipTiming,
        sound: Blob | None,
        stack: ExitStack,
    ) -> None:
        """`frames` are the places in the clip of each frame of the source that is to be added, in order; some may have none."""
        self.number, self.frames = number, frames
        self._settings, self._timing, self._sound, self._stack = settings, timing, sound, stack
        self._left = len(frames)
        self._file: ScratchFile | None = None
        self._encoder: ClipEncoder | None = None
        self._deinterlacer: Deinterlacer | None = None
        self._waiting: deque[list[PlacedFrame]] = deque()

    @property
    def is_done(self) -> bool:
        return not self._left

    def add(self, frame: VideoFrame, places: list[PlacedFrame]) -> None:
        """Encode a frame at its places."""
        if self._encoder is None:
            self._file = self._stack.enter_context(ScratchFile())
            container = self._stack.enter_context(muxing(self._file, "mp4"))
            sound = self._stack.enter_context(sound_packets(self._sound))
            if self._timing.is_interlaced:
                self._deinterlacer = Deinterlacer(frame, is_always=self._settings.deinterlace == "always")
            self._encoder = ClipEncoder(container, frame, self._settings, self._timing, sound)
        self._left -= 1
        self._waiting.append(places)
        self._encode([frame] if self._deinterlacer is None else self._deinterlacer.take(frame))

    def _encode(self, frames: Sequence[VideoFrame]) -> None:
        assert self._encoder is not None, "a clip has at least one frame"
        for frame in frames:
            self._encoder.add(frame, self._waiting.popleft())

    def finish(self, scratch: Scratch) -> Blob:
        """Return the finished file, kept in `scratch`."""
        assert self._encoder is not None, "a clip has at least one frame"
        assert self._file is not None
        self._encode([] if self._deinterlacer is None else self._deinterlacer.take(None))
        self._encoder.finish()
        self._encoder.container.close()
        blob = scratch.keep(self._file)
        self._stack.close()
        return blob
