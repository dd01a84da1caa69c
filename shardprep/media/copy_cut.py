"""Cutting at key frames: packets copied as they are, quick and without loss, shorter than asked for."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av.error
from av.packet import Packet

from shardprep.core.blob import Blob
from shardprep.media.clips import Clip, ClipResult, Intervals, Run, end_of_frame, runs_of, true_intervals
from shardprep.media.container import DecodeError, decoder_words, open_video
from shardprep.media.encode import SoundTrack
from shardprep.media.orientation import UPRIGHT
from shardprep.media.scratch import Scratch, ScratchFile, muxing
from shardprep.media.sound import cut_sound, sound_packets
from shardprep.media.timeline import OnCorrupt, PacketTime, Timeline, decodable_packets, read_packets

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_MP4_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})


def cut_copy(blob: Blob, clips: Sequence[Intervals], *, keep_audio: bool = False, on_corrupt: OnCorrupt = "fail") -> list[ClipResult]:
    """Return each clip with the packets from the first key frame inside each interval on, copied.

    A clip holds no frame from outside its intervals. It ends where the packets so far are a whole number of frames without a
    gap, so that every frame can be decoded: up to a few frames before the interval does. Sound is encoded anew, to fit.
    A clip without a key frame inside is a DecodeError `no-key-frame-inside`; other DecodeErrors are raised.
    """
    timeline, packets = read_packets(blob, on_corrupt=on_corrupt)
    if not timeline.is_timed:
        raise DecodeError("no-frame-times", f"{timeline.container} files do not say when frames are shown; use mode: exact")
    if timeline.container == "webp":
        raise DecodeError("no-container", "frames of an animated WebP go into neither mp4 nor Matroska as they are; use mode: exact")
    _check_aspect(blob, timeline)
    index = {pts: i for i, pts in enumerate(timeline.pts)}
    plans = [_plan(intervals, timeline, packets, index) for intervals in clips]
    shown = [true_intervals([part.run for part in parts], timeline) for parts in plans]
    sounds: list[Blob | None] = cut_sound(blob, shown, on_corrupt=on_corrupt) if keep_audio else [None] * len(clips)
    copied = _copy_all(blob, timeline, plans, sounds)
    missing = DecodeError("no-key-frame-inside", "no key frame lies inside the clip; mode: exact cuts anywhere")
    return [Clip(blob=copied[i][0], suffix=copied[i][1], intervals=shown[i]) if i in copied else missing for i in range(len(clips))]


def _check_aspect(blob: Blob, timeline: Timeline) -> None:
    """Raise DecodeError where only the source's container knows the pixel aspect and the clip's would lose it: PyAV gives Matroska none."""
    with open_video(blob) as (_, stream):
        stated, known = stream.sample_aspect_ratio or 1, stream.codec_context.sample_aspect_ratio or 1
    if timeline.codec not in _MP4_CODECS and stated != known:
        message = f"pixels of {stated.numerator}:{stated.denominator}, which a copy of {timeline.codec} cannot say; use mode: exact"
        raise DecodeError("aspect-not-copied", message)


@dataclass(frozen=True)
class _Part:
    """Frames of one interval that can be copied."""

    run: Run
    frames: tuple[tuple[int, int], ...]
    """Place in decoding order and index in presentation order of each packet."""


def _plan(intervals: Intervals, timeline: Timeline, packets: Sequence[PacketTime], index: dict[int, int]) -> list[_Part]:
    found = (_part(run, timeline, packets, index) for run in runs_of(intervals, timeline))
    return [part for part in found if part is not None]


def _part(run: Run, timeline: Timeline, packets: Sequence[PacketTime], index: dict[int, int]) -> _Part | None:
    position = bisect.bisect_left(timeline.keyframes, run.first)
    if position == len(timeline.keyframes) or timeline.keyframes[position] >= run.stop:
        return None
    key = timeline.keyframes[position]
    start = next(place for place, packet in enumerate(packets) if packet.pts == timeline.pts[key])
    frames: list[tuple[int, int]] = []
    last = whole = 0
    for place in range(start, len(packets)):
        frame = index[packets[place].pts or 0]
        if frame >= run.stop:
            break
        if frame < key:
            continue  # shown before its key frame: it refers to the group of pictures before
        frames.append((place, frame))
        last = max(last, frame)
        if last - key + 1 == len(frames):
            whole = len(frames)
    return _Part(Run(key, key + whole), tuple(frames[:whole]))


def _copy_all(
    blob: Blob, timeline: Timeline, plans: Sequence[Sequence[_Part]], sounds: Sequence[Blob | None]
) -> dict[int, tuple[Blob, str]]:
    """Copy the packets of all clips in one pass; clips that overlap share packets."""
    scratch, done = Scratch(), {}
    with ExitStack() as stack, open_video(blob) as (container, stream):
        waiting = sorted((i for i, parts in enumerate(plans) if parts), key=lambda i: plans[i][0].frames[0][0])
        active: list[_CopiedClip] = []
        for place, packet in enumerate(_packets(container, stream)):
            while waiting and plans[waiting[0]][0].frames[0][0] <= place:
                number = waiting.pop(0)
                own = stack.enter_context(ExitStack())
                active.append(_CopiedClip(number, plans[number], timeline, stream, sounds[number], own))
            for clip in list(active):
                clip.take(place, packet)
                if clip.is_done:
                    active.remove(clip)
                    done[clip.number] = (clip.finish(scratch), clip.suffix)
            if not active and not waiting:
                break
    return done


def _packets(container: Any, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    try:
        yield from (packet for packet in decodable_packets(container, stream) if packet.size and not packet.is_discard)
    except av.error.FFmpegError as error:
        raise DecodeError("truncated", decoder_words(error)) from error


class _CopiedClip:
    """A clip that is being copied."""

    def __init__(
        self, number: int, parts: Sequence[_Part], timeline: Timeline, stream: VideoStream, sound: Blob | None, stack: ExitStack
    ) -> None:
        self.number = number
        is_mp4 = timeline.codec in _MP4_CODECS
        self.suffix = "mp4" if is_mp4 else "mkv"
        self._stack = stack
        self._file = stack.enter_context(ScratchFile())
        self._container = stack.enter_context(muxing(self._file, "mp4" if is_mp4 else "matroska"))
        try:
            self._stream = self._container.add_stream_from_template(stream, opaque=True)
        except ValueError as error:
            words = f"{timeline.codec} as it is goes into neither mp4 nor Matroska; use mode: exact"
            raise DecodeError("no-container", words) from error
        if timeline.orientation != UPRIGHT:
            self._stream.set_display_matrix(timeline.orientation.matrix)
        if stream.sample_aspect_ratio:
            self._stream.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
        self._sound = SoundTrack(self._container, stack.enter_context(sound_packets(sound)))
        self._times = _clip_times(parts, timeline)
        self._shown = sorted(times.pts for times in self._times.values())
        self._delay = max(shown - times.pts for shown, times in zip(self._shown, self._times.values(), strict=True))
        self._count = 0

    @property
    def is_done(self) -> bool:
        return self._count == len(self._shown)

    def take(self, place: int, packet: Packet[VideoStream]) -> None:
        """Copy the packet at `place` in decoding order where it is of this clip."""
        times = self._times.get(place)
        if times is None:
            return
        copy = Packet(bytes(packet))
        copy.stream, copy.time_base, copy.is_keyframe = self._stream, packet.time_base, packet.is_keyframe
        copy.pts, copy.duration = times.pts, times.duration
        # Decoding times are made anew: Matroska stores none, and those of two intervals would not follow each other.
        copy.dts = self._shown[self._count] - self._delay
        self._count += 1
        if self.is_done:
            # Readers add up the lengths in decoding order, so the last frame's length belongs to the last packet as well.
            copy.duration = max(self._times.values(), key=lambda shown: shown.pts).duration
        self._sound.write_before(copy)
        self._container.mux(copy)

    def finish(self, scratch: Scratch) -> Blob:
        """Return the finished file, kept in `scratch`."""
        self._sound.write_before(None)
        self._container.close()
        blob = scratch.keep(self._file)
        self._stack.close()
        return blob


@dataclass(frozen=True, slots=True)
class _Shown:
    """When a copied packet's frame is shown in the clip, and for how long."""

    pts: int
    duration: int


def _clip_times(parts: Sequence[_Part], timeline: Timeline) -> dict[int, _Shown]:
    """Return the times of each packet, by its place in decoding order."""
    times: dict[int, _Shown] = {}
    base = 0
    for part in parts:
        start = timeline.pts[part.run.first]
        for place, frame in part.frames:
            shown = timeline.pts[frame]
            times[place] = _Shown(base + shown - start, end_of_frame(frame, timeline) - shown)
        base += end_of_frame(part.run.stop - 1, timeline) - start
    return times
