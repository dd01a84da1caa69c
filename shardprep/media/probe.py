"""The facts of a video: what its headers, its first frame and its timeline say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import av.error

from shardprep.core.blob import Blob
from shardprep.media.animated_webp import stored_pixel_format
from shardprep.media.colours import is_full_range
from shardprep.media.container import DecodeError, decoder_words, open_video
from shardprep.media.timeline import Timeline, codec_name, decodable_packets, read_timeline
from shardprep.media.tonemap import HDR_TRANSFERS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True, kw_only=True)
class MediaFacts:
    """Facts of one video or image, as the columns `media.*` hold them."""

    width: int
    """Pixels of the upright frames, as `height`."""
    height: int
    fps: float
    """Average frames per second over the video; 0 for a single frame."""
    is_vfr: bool
    """Whether the time from frame to frame varies by more than the container's rounding."""
    num_frames: int
    seconds: float
    """From the first frame's appearance to the last one's end."""
    start_seconds: float
    """When the first frame is shown, by the container's clock."""
    container: str
    codec: str
    """The format's name as ffprobe gives it, as `profile`, `pixel_format` and `field_order`: `h264`, `av1`."""
    profile: str
    """Such as `High`, `Main 10`; `unknown` where the codec has none."""
    pixel_format: str
    field_order: str
    """`progressive`, `tt`, `bb`, `tb`, `bt`, or `unknown`: which field is stored and shown first."""
    interlaced: bool
    """Whether the stream or its first frame says that a frame holds two moments."""
    num_sizes: int | None
    """How many sizes the frames have, one after the other: more than 1 where the resolution changes in mid-stream. None: not decoded."""
    rotation: int
    """Degrees that the stored frames are turned counter-clockwise to stand upright: 0, 90, 180, 270."""
    is_mirrored: bool
    """Whether the stored frames are mirrored left to right before they are turned."""
    aspect: float
    """Width over height as shown, with non-square pixels taken into account."""
    colour_range: str
    """`limited` or `full`."""
    hdr: bool
    """Whether brightness is coded as PQ or HLG."""
    num_audio_streams: int
    bit_rate: int
    """Bits per second of the whole file over `seconds`."""
    bytes: int

    def columns(self) -> dict[str, Any]:
        """Return the facts by column name."""
        return {f"media.{name}": value for name, value in vars(self).items()}


def probe(blob: Blob, timeline: Timeline | None = None, *, num_sizes: int | None = None) -> MediaFacts:
    """Return the facts of a video with the frames that `timeline` has, by default those that its packets promise.

    `num_sizes` is what only decoding tells; an image has one size.
    Raises DecodeError where the file is no video or its first frame cannot be decoded.
    """
    timeline = timeline or read_timeline(blob)
    with open_video(blob) as (container, stream):
        frame = _first_frame(container, stream)
        profile = stream.codec_context.profile or "unknown"
        num_audio_streams = len(container.streams.audio)
    pixel_format, is_full = frame.format.name, is_full_range(frame)
    if timeline.container == "webp":
        pixel_format = stored_pixel_format(blob)
        is_full = pixel_format == "argb"
    seconds = float((timeline.end_pts - timeline.pts[0]) * timeline.time_base)
    return MediaFacts(
        width=timeline.width,
        height=timeline.height,
        fps=_average_fps(timeline),
        is_vfr=is_variable(timeline.pts),
        num_frames=timeline.num_frames,
        seconds=seconds,
        start_seconds=timeline.seconds[0],
        container=timeline.container,
        codec=timeline.codec,
        profile=profile,
        pixel_format=pixel_format,
        field_order=timeline.field_order,
        interlaced=timeline.interlaced,
        num_sizes=1 if timeline.num_frames == 1 else num_sizes,
        rotation=timeline.orientation.degrees,
        is_mirrored=timeline.orientation.is_mirrored,
        aspect=float(timeline.pixel_aspect) * timeline.width / timeline.height,
        colour_range="full" if is_full else "limited",
        hdr=int(frame.color_trc) in HDR_TRANSFERS,
        num_audio_streams=num_audio_streams,
        bit_rate=round(8 * blob.size / seconds),
        bytes=blob.size,
    )


def is_variable(pts: Sequence[int]) -> bool:
    """Return whether the frame rate varies: by more than a tenth of a frame, and more than the time base's rounding."""
    gaps = [later - earlier for earlier, later in pairwise(pts)]
    return bool(gaps) and max(gaps) - min(gaps) > max(2, median(gaps) / 10)


def _average_fps(timeline: Timeline) -> float:
    """Frames per second between the first frame and the last: what the frames say, not what the header claims."""
    span = float((timeline.pts[-1] - timeline.pts[0]) * timeline.time_base)
    if not span:
        return 0.0
    measured = (timeline.num_frames - 1) / span
    # The header's exact rate (30000/1001) where the rounding of the times is all that differs.
    return timeline.fps if abs(measured - timeline.fps) < 0.005 * measured else measured


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    try:
        for packet in decodable_packets(container, stream):
            for frame in packet.decode():
                return frame
    except av.error.FFmpegError as error:
        raise DecodeError("decode-error", f"{codec_name(stream)}: {decoder_words(error)}, before the first frame") from error
    raise DecodeError("no-frames", f"no frame of the {codec_name(stream)} stream could be decoded")
