"""Decoding: one sweep over a video for everything that several stages want of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from shardprep.core.blob import Blob
from shardprep.core.frames import AllFrames, Frame, Frames, FramesWanted, select_frames
from shardprep.media.container import MAX_PIXELS, DecodeError, open_video
from shardprep.media.pixels import FramePixels, PixelConverter
from shardprep.media.resize import target_size
from shardprep.media.sweep import Irregular, Sweep
from shardprep.media.timeline import OnCorrupt, Timeline, read_timeline

__all__ = [
    "DecodeError",
    "DecodeResult",
    "Decoder",
    "OnCorrupt",
    "See",
    "count_by_decoding",
    "decode_frames",
    "estimate_bytes",
]

Decoder = Literal["pyav", "decord"]

See = Callable[[Frame], None]
"""Takes every frame in presentation order; the image is valid only during the call."""


@dataclass(frozen=True, kw_only=True)
class DecodeResult:
    """What one call of `decode_frames` gave."""

    frames: tuple[Frames | None, ...]
    """One per wish, in order; None for a wish of all frames, whose watcher saw them."""
    num_decodes: int
    """Sweeps that were needed: 1, more where other frames came out than the packets had promised."""
    timeline: Timeline
    """As the packets tell; as decoded, where that differed."""


def decode_frames(
    blob: Blob,
    wanted: Sequence[FramesWanted],
    watchers: Mapping[int, See] | None = None,
    *,
    timeline: Timeline | None = None,
    decoder: Decoder = "pyav",
    threads: int = 1,
    on_corrupt: OnCorrupt = "fail",
    max_pixels: int = MAX_PIXELS,
) -> DecodeResult:
    """Decode one member once for the union of what `wanted` asks for; frames are upright, in square pixels.

    `watchers` maps the position of each `AllFrames` wish to its callback. Without such a wish decoding stops after the last
    frame that somebody wants, and skips to key frames on the way. A wish that selects no frame (a `Stride` that the video is
    too short for) gives `Frames` of length 0. `timeline` saves reading the packets again. `decoder="decord"` fetches
    selected frames in colour by index with decord; gray ones, whose luma decord does not show, and watchers are served by PyAV.

    Raises DecodeError at damage before the last wanted frame; with `on_corrupt="keep"` the video ends at the last good frame.
    """
    watched = {i: (wanted[i], see) for i, see in (watchers or {}).items()}
    picks = {i: wish for i, wish in enumerate(wanted) if not isinstance(wish.at, AllFrames)}
    assert sorted([*watched, *picks]) == list(range(len(wanted))), "one watcher per wish of all frames, and for no other wish"
    known = timeline or read_timeline(blob, on_corrupt=on_corrupt, max_pixels=max_pixels)
    # Frame threads report damage some frames late; one thread tells the same last good frame every time.
    video = _Video(blob, 1 if on_corrupt == "keep" else threads, on_corrupt, max_pixels)
    fetched: dict[int, Frames] = {}
    coloured = {i: wish for i, wish in picks.items() if wish.colour != "gray"}
    if decoder == "decord" and coloured:
        from shardprep.media.decord import fetch_frames

        fetched = fetch_frames(blob, known, coloured, threads)
        picks = {i: wish for i, wish in picks.items() if i not in coloured}
    frames, num_decodes, known = _watch_and_pick(video, known, watched, picks)
    frames |= fetched
    return DecodeResult(frames=tuple(frames.get(i) for i in range(len(wanted))), num_decodes=num_decodes + bool(fetched), timeline=known)


def estimate_bytes(timeline: Timeline, wanted: Sequence[FramesWanted]) -> int:
    """Return about how much memory decoding these wishes takes at its peak: the arrays, and the frames inside the decoder."""
    native = math.prod(timeline.shown_size)
    total = native * 3 // 2 * 20  # up to 16 reference frames, and those on their way out
    for wish in wanted:
        channels = {"none": 0, "gray": 1}.get(wish.colour, 3)
        height, width = target_size(wish.size, *timeline.shown_size)
        count = 1 if isinstance(wish.at, AllFrames) else len(select_frames(wish.at, timeline.seconds))
        total += channels * (native + count * height * width)
    return total


def count_by_decoding(blob: Blob, timeline: Timeline, on_corrupt: OnCorrupt = "fail", *, max_pixels: int = MAX_PIXELS) -> Timeline:
    """Return the timeline of the frames that really come out of the decoder: for videos whose packets promise others."""
    counted = _sweep_all(_Video(blob, 1, on_corrupt, max_pixels), timeline, {}, {})[1]
    return replace(counted, is_timed=False, can_seek=False)


Watched = Mapping[int, tuple[FramesWanted, See]]
Picks = Mapping[int, FramesWanted]


@dataclass(frozen=True)
class _Video:
    """What to sweep over, and how."""

    blob: Blob
    threads: int
    on_corrupt: OnCorrupt
    max_pixels: int


def _watch_and_pick(video: _Video, timeline: Timeline, watched: Watched, picks: Picks) -> tuple[dict[int, Frames], int, Timeline]:
    """Return the picked frames, the number of sweeps and the true timeline."""
    if not watched and not picks:
        return {}, 0, timeline
    frames, true = _first_sweep(video, timeline, watched, picks)
    if true is timeline:
        return frames, 1, timeline
    # The packets promised other frames: count by decoding, with one thread, which hides no error at the end.
    num_decodes = 1
    if true is None or video.threads > 1:
        num_decodes += 1
        counted = count_by_decoding(video.blob, timeline, video.on_corrupt, max_pixels=video.max_pixels)
        if true is not None and true.pts != counted.pts:
            counts = f"{true.num_frames} frames with {video.threads} threads, {counted.num_frames} with one"
            raise DecodeError("decode-error", f"{timeline.codec}: {counts}: the end of the video is damaged")
        true = counted
    if not picks:
        return {}, num_decodes, true
    try:
        return _sweep_some(replace(video, threads=1), true, picks), num_decodes + 1, true
    except Irregular as error:
        raise DecodeError("decode-error", f"{timeline.codec}: two decodings of the video gave different frames") from error


def _first_sweep(video: _Video, timeline: Timeline, watched: Watched, picks: Picks) -> tuple[dict[int, Frames], Timeline | None]:
    """Return the picked frames and the true timeline, None where the frames were irregular and nobody counted them."""
    if watched:
        return _sweep_all(video, timeline, watched, picks)
    try:
        return _sweep_some(video, timeline, picks), timeline
    except Irregular:
        return {}, None


def _sweep_all(video: _Video, timeline: Timeline, watched: Watched, picks: Picks) -> tuple[dict[int, Frames], Timeline]:
    """Show every frame to the watchers; return what was picked by `timeline`, and the timeline as decoded."""
    gatherers = {i: _Gatherer(wish, timeline) for i, wish in picks.items()}
    converter = PixelConverter(timeline)
    with open_video(video.blob, threads=video.threads, max_pixels=video.max_pixels) as (container, stream):
        sweep = Sweep(container, stream, timeline, video.on_corrupt)
        for decoded in sweep.all_frames():
            pixels = converter.of(decoded.frame)
            for wish, see in watched.values():
                see(
                    Frame(
                        decoded.index, float(decoded.pts * timeline.time_base), pixels.get(wish), decoded.frame.height, decoded.frame.width
                    )
                )
            for gatherer in gatherers.values():
                gatherer.take(decoded.index, pixels)
        true = sweep.true_timeline()
    return ({i: gatherer.result() for i, gatherer in gatherers.items()} if true is timeline else {}), true


def _sweep_some(video: _Video, timeline: Timeline, picks: Picks) -> dict[int, Frames]:
    """Return the picked frames, decoding no more than needed; raise Irregular where they are not those of the timeline."""
    gatherers = {i: _Gatherer(wish, timeline) for i, wish in picks.items()}
    needed = sorted({index for gatherer in gatherers.values() for index in gatherer.indices})
    converter = PixelConverter(timeline)
    with open_video(video.blob, threads=video.threads, max_pixels=video.max_pixels) as (container, stream):
        for decoded in Sweep(container, stream, timeline, video.on_corrupt).frames_at(needed):
            pixels = converter.of(decoded.frame)
            for gatherer in gatherers.values():
                gatherer.take(decoded.index, pixels)
    return {i: gatherer.result() for i, gatherer in gatherers.items()}


class _Gatherer:
    """Collects the frames of one wish into one array."""

    def __init__(self, wish: FramesWanted, timeline: Timeline) -> None:
        self.indices = tuple(select_frames(wish.at, timeline.seconds))
        self._wish, self._timeline = wish, timeline
        self._places: dict[int, list[int]] = {}
        for place, index in enumerate(self.indices):
            self._places.setdefault(index, []).append(place)
        height, width = target_size(wish.size, *timeline.shown_size)
        depth = () if wish.colour == "gray" else (3,)
        self._images = None if wish.colour == "none" else np.empty((len(self.indices), height, width, *depth), np.uint8)

    def take(self, index: int, pixels: FramePixels) -> None:
        for place in self._places.get(index, ()):
            if self._images is not None:
                self._images[place] = pixels.get(self._wish)

    def result(self) -> Frames:
        seconds = self._timeline.seconds
        return Frames(
            images=self._images,
            indices=self.indices,
            seconds=tuple(seconds[index] for index in self.indices),
            num_frames=self._timeline.num_frames,
            height=self._timeline.shown_size[0],
            width=self._timeline.shown_size[1],
        )
