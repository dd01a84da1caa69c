"""The timeline of a video: when each frame is shown, and where decoding can start; read from packets, without decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import av.error

from shardprep.core.blob import Blob
from shardprep.core.progress import gets_on
from shardprep.media.animated_webp import COPY_NAME
from shardprep.media.container import MAX_PIXELS, DecodeError, check_fragments, decoder_words, open_container, open_video
from shardprep.media.orientation import UPRIGHT, Orientation, orientation_of
from shardprep.media.resize import square_size
from shardprep.media.whole_file import announced_seconds, missing_end

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

OnCorrupt = Literal["fail", "keep"]
"""At damage in the middle of a video: raise, or let the video end at the last good frame."""

# Their index says which packets are key frames and where they lie, and their packets carry true presentation times.
_SEEKABLE = frozenset({"mov", "matroska", "webp"})
# AVI stores no presentation times, only that one frame is decoded at each beat.
_UNTIMED = frozenset({"avi"})
# Streams without a table of contents: two of them joined end to end are one file, in which the clock starts anew.
_STREAMED = frozenset({"mpeg", "mpegts"})
# Their length is counted from 0, not from the first frame.
_COUNTED_FROM_0 = frozenset({"asf"})
# Real pixels are 4:3 or 2:1 at most. A header that claims 1000:1 would make frames a thousand times as large.
_MAX_PIXEL_ASPECT = 4
# AVFieldOrder, in the words of ffprobe
_FIELD_ORDERS = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}
_INTERLACED = frozenset({"tt", "bb", "tb", "bt"})
# After so many packets without a key frame there is none, or the container does not mark them.
_MAX_WAITING = 600


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When the frames of a video are shown, in presentation order, and what its headers say."""

    pts: tuple[int, ...]
    """Presentation times in units of `time_base`, ascending."""
    time_base: Fraction
    end_pts: int
    """When the last frame's display ends."""
    keyframes: tuple[int, ...]
    """Indices of the frames from which decoding can start, ascending."""
    width: int
    """Width of the upright frames in pixels."""
    height: int
    orientation: Orientation
    """How stored frames are turned and mirrored to stand upright."""
    pixel_aspect: Fraction
    """Width of a pixel over its height in the upright picture; 1 where nobody says."""
    fps: float
    """Average frames per second; 0 where the container does not say and there is but one frame."""
    container: str
    codec: str
    """As ffprobe names it."""
    field_order: str
    """`progressive`, `tt`, `bb`, `tb`, `bt` or `unknown`, as ffprobe says."""
    interlaced: bool
    """Whether the stream or its first frame says that a frame holds two moments."""
    is_timed: bool
    """Whether a decoded frame's own time tells its index; False where the container's times are missing, doubled or guessed."""
    can_seek: bool

    @property
    def num_frames(self) -> int:
        return len(self.pts)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width of the upright picture in square pixels: what stages get."""
        return square_size(self.height, self.width, self.pixel_aspect)

    @cached_property
    def seconds(self) -> tuple[float, ...]:
        """Presentation times in seconds, as the container says (the first may be above 0)."""
        numerator, denominator = self.time_base.numerator, self.time_base.denominator
        return tuple(pts * numerator / denominator for pts in self.pts)

    @property
    def end_seconds(self) -> float:
        """When the last frame's display ends."""
        return float(self.end_pts * self.time_base)


class PacketTime(NamedTuple):
    """What a packet says of its frame."""

    pts: int | None
    dts: int | None
    duration: int
    is_key: bool


def read_timeline(blob: Blob, *, on_corrupt: OnCorrupt = "fail", max_pixels: int = MAX_PIXELS) -> Timeline:
    """Return the timeline of a video by reading its packets; only the first frame is decoded, for the way it stands.

    Packets before the first key frame are left out: they cannot be decoded. Raises DecodeError where the file is no
    video, and `truncated` where the container ends early, unless `on_corrupt` keeps what came before.
    """
    return read_packets(blob, on_corrupt=on_corrupt, max_pixels=max_pixels)[0]


def read_packets(blob: Blob, *, on_corrupt: OnCorrupt = "fail", max_pixels: int = MAX_PIXELS) -> tuple[Timeline, list[PacketTime]]:
    """Return the timeline and the packets that it was made from, in decoding order."""
    check_fragments(blob)
    with open_video(blob, max_pixels=max_pixels) as (container, stream):
        packets, first = _read_packets(container, stream, on_corrupt)
        if on_corrupt == "fail":
            _check_whole(blob, container, stream, packets)
        if not packets:
            raise DecodeError("no-frames", f"the {codec_name(stream)} stream holds no frame")
        _check_one_clock(container, packets)
        return build_timeline(container, stream, packets, first), packets


def build_timeline(container: InputContainer, stream: VideoStream, packets: Sequence[PacketTime], first: VideoFrame | None) -> Timeline:
    """Return the timeline of packets in decoding order; `first` is the first decoded frame, None where it cannot be decoded."""
    name = _container_name(container)
    times = [packet.pts if packet.pts is not None else packet.dts for packet in packets]
    known = [time for time in times if time is not None]
    is_timed = name not in _UNTIMED and all(p.pts is not None for p in packets) and len(set(known)) == len(packets)
    pts = _beats(packets, first) if name in _UNTIMED else None
    pts = pts or (tuple(sorted(known)) if len(known) == len(packets) else _even_times(stream, len(packets)))
    field_order = _FIELD_ORDERS.get(int(stream.codec_context.field_order), "unknown")
    orientation = orientation_of(first) if first else UPRIGHT
    width, height = (first.width, first.height) if first else (stream.codec_context.width, stream.codec_context.height)
    return Timeline(
        pts=pts,
        time_base=Fraction(stream.time_base or Fraction(1, 90000)),
        end_pts=end_of(name, stream, pts, packets[-1].duration),
        keyframes=_key_frames(packets, pts) if is_timed else (),
        width=height if orientation.is_sideways else width,
        height=width if orientation.is_sideways else height,
        orientation=orientation,
        pixel_aspect=_pixel_aspect(stream, orientation),
        fps=float(stream.average_rate or 0),
        container=name,
        codec=codec_name(stream),
        field_order=field_order,
        interlaced=field_order in _INTERLACED or (first is not None and first.interlaced_frame),
        is_timed=is_timed,
        can_seek=is_timed and name in _SEEKABLE,
    )


def codec_name(stream: VideoStream | AudioStream) -> str:
    """Return the name of the stream's format as ffprobe gives it (`av1`), not that of the decoder (`libdav1d`)."""
    return "webp" if stream.container.name == COPY_NAME else stream.codec_context.codec.canonical_name


def _container_name(container: InputContainer) -> str:
    """Return ffmpeg's first name of the format: `mov` for every mp4, `matroska` for WebM; `webp` for an animated one, read as its copy."""
    if container.name == COPY_NAME:
        return "webp"
    return container.format.name.partition(",")[0]


def _pixel_aspect(stream: VideoStream, orientation: Orientation) -> Fraction:
    """Return the pixel aspect as ffmpeg decides between container and codec (`av_guess_sample_aspect_ratio`): the container's counts."""
    stored = stream.sample_aspect_ratio or Fraction(1)
    if not 1 / _MAX_PIXEL_ASPECT <= stored <= _MAX_PIXEL_ASPECT:
        return Fraction(1)
    return 1 / stored if orientation.is_sideways else stored


def _key_frames(packets: Sequence[PacketTime], pts: Sequence[int]) -> tuple[int, ...]:
    index = {time: i for i, time in enumerate(pts)}
    return tuple(sorted(index[packet.pts] for packet in packets if packet.is_key and packet.pts is not None))


def end_of(container: str, stream: VideoStream, pts: Sequence[int], duration: int) -> int:
    """Return when the last frame ends: the stream's own end where it is likely, else after the last frame's duration.

    ffmpeg fills in the duration of a packet from the decoding order, so with B-frames and a variable rate it belongs to another frame.
    """
    usual = duration or (round(1 / (stream.average_rate * stream.time_base)) if stream.average_rate and stream.time_base else 1)
    if stream.duration and container not in _COUNTED_FROM_0:
        end = (stream.start_time or 0) + stream.duration
        if pts[-1] < end <= pts[-1] + 4 * usual:
            return end
    return pts[-1] + max(1, usual)


def _read_packets(container: InputContainer, stream: VideoStream, on_corrupt: OnCorrupt) -> tuple[list[PacketTime], VideoFrame | None]:
    packets: list[PacketTime] = []
    first: VideoFrame | None = None
    peek = True
    try:
        for packet in decodable_packets(container, stream):
            if peek:
                first, peek = _peek(packet)
            if packet.size and not packet.is_discard:
                packets.append(PacketTime(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
    except av.error.FFmpegError as error:
        if on_corrupt == "keep" and packets:
            return packets, first
        raise DecodeError("truncated", f"{container.format.name}: {decoder_words(error)}, after packet {len(packets)}") from error
    return packets, first


def _check_whole(blob: Blob, container: InputContainer, stream: VideoStream, packets: Sequence[PacketTime]) -> None:
    """Raise DecodeError where the container announces more than is there: ffmpeg ends silently at the end of the file."""
    name = _container_name(container)
    words = _missing_index_entries(stream, blob.size, len(packets)) if name == "mov" else None
    words = words or missing_end(blob, name)
    if not words and (announced := announced_seconds(blob, name)):
        words = _missing_seconds(blob, stream, packets, announced)
    if words:
        raise DecodeError("truncated", f"{name}: {words}; on_corrupt: keep takes what is there")


def _check_one_clock(container: InputContainer, packets: Sequence[PacketTime]) -> None:
    """Raise DecodeError where an MPEG stream's times go back: sorted by time, its parts would be shown frame against frame.

    Whatever is decoded before a key frame is shown before it, in open groups of pictures as well.
    """
    back = _step_back(packets) if _container_name(container) in _STREAMED else None
    if back is not None:
        raise DecodeError(
            "times-go-back",
            f"{_container_name(container)}: after frame {back} the times start anew, as where recordings are joined end to end; give it "
            "one clock first: ffmpeg -i IN -map 0 -c copy OUT.mkv",
        )


def _step_back(packets: Sequence[PacketTime]) -> int | None:
    """Return the first key frame that would be shown before a frame which was decoded before it."""
    latest: int | None = None
    for place, packet in enumerate(packets):
        if packet.pts is not None:
            if packet.is_key and latest is not None and packet.pts < latest:
                return place
            latest = packet.pts if latest is None else max(latest, packet.pts)
    return None


def _is_much_less(found_seconds: float, announced_seconds: float) -> bool:
    """Return whether so much is missing that it is no rounding and no habit of a writer."""
    return found_seconds < 0.9 * announced_seconds - 1


def _missing_index_entries(stream: VideoStream, size: int, num_packets: int) -> str | None:
    entries = stream.index_entries
    last = entries[len(entries) - 1] if len(entries) else None
    if last is None or last.pos + last.size <= size:
        return None
    return f"the file ends at byte {size}, its frames at byte {last.pos + last.size}: {num_packets} of {len(entries)} are there"


def _missing_seconds(blob: Blob, stream: VideoStream, packets: Sequence[PacketTime], announced: float) -> str | None:
    tick = stream.time_base or Fraction(1, 1000)
    found = float(max((packet.pts or 0) for packet in packets) * tick) if packets else 0.0
    if _is_much_less(found, announced):
        # The length of a file is that of its longest stream, so the others are asked as well.
        with open_container(blob) as again:
            found = max((float((packet.pts or 0) * packet.time_base) for packet in again.demux() if packet.size), default=0.0)
    return f"it announces {announced:.1f} s and ends after {found:.1f} s" if _is_much_less(found, announced) else None


def _peek(packet: Packet[VideoStream]) -> tuple[VideoFrame | None, bool]:
    """Return the first frame where the packet gives it, and whether to go on looking."""
    try:
        frames = packet.decode()
    except av.error.FFmpegError:
        return None, False
    return (frames[0], False) if frames else (None, True)


def decodable_packets(container: InputContainer, stream: VideoStream, *, has_started: bool = False) -> Iterator[Packet[VideoStream]]:
    """Yield the packets from the first key frame on, and at the end the empty one that flushes the decoder.

    A recording may start between key frames; what comes before the first one cannot be decoded and is no damage. Where no
    packet is marked as a key frame all are yielded. So are those of a file whose index says that it starts with a key frame:
    ffmpeg takes the mark from a packet whose bytes are none.
    """
    waiting: list[Packet[VideoStream]] = []
    for packet in container.demux(stream):
        gets_on()
        is_flush = not packet.size and packet.dts is None
        if not packet.size and not is_flush:
            continue  # an AVI marks a dropped frame so; given to a decoder it would end the stream
        if not has_started and not waiting and not packet.is_keyframe and _should_be_key(stream, packet):
            has_started = True
        if not has_started and not packet.is_keyframe and not is_flush and len(waiting) < _MAX_WAITING:
            waiting.append(packet)
            continue
        if not has_started and not packet.is_keyframe:
            yield from waiting
        has_started = True
        yield packet


def _should_be_key(stream: VideoStream, first: Packet[VideoStream]) -> bool:
    """Return whether the file's index has a key frame where its first packet is; one that says so of every frame says nothing."""
    entries = stream.index_entries
    time = first.pts if first.dts is None else first.dts
    if not len(entries) or time is None or not entries[0].is_keyframe or entries[0].timestamp > time:
        return False
    return len(entries) != stream.frames or not all(entry.is_keyframe for entry in entries)


def _beats(packets: Sequence[PacketTime], first: VideoFrame | None) -> tuple[int, ...] | None:
    """Return when frames are shown that come out of the decoder one per packet: each at its packet's decoding time, as ffmpeg plays them.

    A decoder of B-frames holds frames back, so the first is shown at the time of the packet that brought it out. PyAV asks
    ffmpeg for presentation times; those that it makes up for AVI are one frame off, with B-frames or without.
    """
    beats = [packet.dts for packet in packets if packet.dts is not None]
    if len(beats) < len(packets) or first is None or first.dts not in beats:
        return None
    shown = beats[beats.index(first.dts) :]
    return (*shown, *(shown[-1] + k + 1 for k in range(len(beats) - len(shown))))


def _even_times(stream: VideoStream, count: int) -> tuple[int, ...]:
    step = 1 / (Fraction(stream.average_rate or 25) * Fraction(stream.time_base or Fraction(1, 90000)))
    return tuple(round(i * step) for i in range(count))
