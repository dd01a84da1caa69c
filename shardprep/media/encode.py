"""Encoding one clip into an mp4 file, deterministically."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av.error
from av.codec.context import Flags, ThreadType
from av.video.frame import PictureType
from av.video.stream import VideoStream

from shardprep.core.frames import frame_rate
from shardprep.errors import RecipeError
from shardprep.media.clips import PlacedFrame
from shardprep.media.deinterlace import Deinterlace
from shardprep.media.encoders import encoder_options, quiet_encoders
from shardprep.media.orientation import UPRIGHT, Orientation
from shardprep.media.shape import FrameShaper
from shardprep.media.tonemap import ToneMap

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How clips are encoded."""

    encoder: str = "libx264"
    """One of `encoders.ENCODERS`."""
    crf: int | None = None
    """Constant quality; lower is better and larger. None is the encoder's default, which looks like the source."""
    preset: str | None = None
    """Speed against size, in the encoder's words; None is its default."""
    fps: float | None = None
    """Frames per second of the clips; None keeps every frame at its own time."""
    short_side_px: int | None = None
    """The short side is scaled down to this; None keeps the size."""
    square_pixels: bool = True
    """Whether frames whose pixels are not square are scaled until they are; else the clip's header says their aspect."""
    keep_audio: bool = False
    """Whether the first audio stream comes along, as AAC."""
    deinterlace: Deinterlace = "auto"
    """Which frames are made whole of their lines."""
    tonemap: ToneMap = "bt2390"
    """By which curve HDR becomes BT.709."""
    gop_seconds: float = 1.0
    """A key frame at least this often."""
    threads: int = 1
    """Threads of the encoder; x264's bytes depend on it."""


@dataclass(frozen=True, kw_only=True)
class ClipTiming:
    """In what times a clip's frames are given, and what its frames look like when shown."""

    time_base: Fraction
    fps: float
    """Average frames per second, for the encoder's rate control and what headers say."""
    orientation: Orientation = UPRIGHT
    """How the frames are turned and mirrored to stand upright."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height in the upright picture."""
    is_interlaced: bool = False
    """Whether the frames are to be deinterlaced."""


class ClipEncoder:
    """Writes the frames of one clip, given in order, into an mp4; `sound` is an m4a file that goes beside them."""

    def __init__(
        self,
        container: OutputContainer,
        first: VideoFrame,
        settings: EncodeSettings,
        timing: ClipTiming,
        sound: Iterator[Packet[Any]] | None,
    ) -> None:
        self.container, self._timing = container, timing
        aspect = timing.pixel_aspect if settings.square_pixels else Fraction(1)
        self._shaper = FrameShaper(first, timing.orientation, aspect, settings.short_side_px, settings.tonemap)
        self._stream = _video_stream(container, self._shaper, settings, timing)
        self._sound = SoundTrack(container, sound)
        self._durations: dict[int, int] = {}
        self._last_duration = 0

    def add(self, frame: VideoFrame, places: Sequence[PlacedFrame]) -> None:
        """Encode a frame once for each of its places, in units of the time base."""
        shaped = self._shaper.shape(frame) if places else frame
        for placed in places:
            shaped.pts, shaped.time_base, shaped.duration = placed.pts, self._timing.time_base, placed.duration
            # The source's picture types would be taken for orders.
            shaped.pict_type = PictureType.NONE
            self._durations[placed.pts] = self._last_duration = placed.duration
            self._mux(self._stream.encode(shaped))

    def finish(self) -> None:
        """Write what the encoder still holds, and the rest of the sound."""
        packets = self._stream.encode(None)
        if packets:
            # Readers add up the lengths in decoding order, so the last frame's length belongs to the last packet as well.
            self._durations[packets[-1].pts or 0] = self._last_duration
        self._mux(packets)
        self._sound.write_before(None)

    def _mux(self, packets: Sequence[Packet[VideoStream]]) -> None:
        for packet in packets:
            # The muxer takes the last frame's length from its packet, where the encoder leaves a guess.
            packet.duration = self._durations.pop(packet.pts or 0, packet.duration)
            self._sound.write_before(packet)
            self.container.mux(packet)


class SoundTrack:
    """A finished audio stream that is copied into a clip, packet by packet between those of the video."""

    def __init__(self, container: OutputContainer, packets: Iterator[Packet[Any]] | None) -> None:
        self._container, self._packets = container, packets or iter(())
        self._next = next(self._packets, None)
        self._stream = container.add_stream_from_template(self._next.stream) if self._next else None

    def write_before(self, video: Packet[Any] | None) -> None:
        """Write the packets that come no later than `video`; all that is left where it is None."""
        while self._next is not None and (video is None or _seconds(self._next) <= _seconds(video)):
            self._next.stream = self._stream
            self._container.mux(self._next)
            self._next = next(self._packets, None)


def _seconds(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _video_stream(container: OutputContainer, shaper: FrameShaper, settings: EncodeSettings, timing: ClipTiming) -> VideoStream:
    quiet_encoders()
    try:
        stream = container.add_stream(settings.encoder, rate=_rate(timing.fps))
    except (av.error.FFmpegError, ValueError) as error:
        raise RecipeError(f"encoder {settings.encoder!r}: this ffmpeg has none that mp4 takes; `shardprep doctor` lists codecs") from error
    if not isinstance(stream, VideoStream):
        raise RecipeError(f"encoder {settings.encoder!r} encodes no video; expected one of H.264, such as libx264")
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = shaper.width, shaper.height, "yuv420p"
    context.time_base = timing.time_base
    if not settings.square_pixels:
        context.sample_aspect_ratio = timing.pixel_aspect
    context.options = encoder_options(settings.encoder, settings.crf, settings.preset)
    context.thread_count, context.thread_type = settings.threads, ThreadType.FRAME
    context.flags |= Flags.bitexact | Flags.closed_gop
    context.gop_size = max(1, round(settings.gop_seconds * timing.fps))
    context.color_range, context.colorspace = shaper.color_range, shaper.colorspace
    context.color_primaries, context.color_trc = shaper.color_primaries, shaper.color_trc
    return stream


def _rate(fps: float) -> Fraction:
    # An image, or a video of one frame, has no rate; the encoder wants one.
    return frame_rate(fps) if fps > 0 else Fraction(25)
