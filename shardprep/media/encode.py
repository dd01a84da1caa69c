"""Encoding one clip into an mp4 file, deterministically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av.error
from av.codec.context import Flags, ThreadType
from av.video.frame import PictureType

from shardprep.errors import RecipeError
from shardprep.media.shape import FrameShaper

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """How clips are encoded."""

    encoder: str = "libx264"
    """An ffmpeg encoder of H.264, as `ffmpeg -encoders` names it."""
    crf: int = 18
    """Constant quality, 0 to 51; lower is better and larger. 18 looks like the source."""
    preset: str = "veryfast"
    """Speed against size, from `ultrafast` to `veryslow`."""
    fps: float | None = None
    """Frames per second of the clips; None keeps every frame at its own time."""
    short_side_px: int | None = None
    """The short side is scaled down to this; None keeps the size."""
    keep_audio: bool = False
    """Whether the first audio stream comes along, as AAC."""
    threads: int = 1
    """Threads of the encoder; x264's bytes depend on it."""


class ClipEncoder:
    """Writes the frames of one clip, given in order, into an mp4."""

    def __init__(
        self,
        container: OutputContainer,
        first: VideoFrame,
        settings: EncodeSettings,
        time_base: Fraction,
        fps: float,
        sound: Sequence[Packet[Any]] = (),
    ) -> None:
        self._container, self._time_base = container, time_base
        self._shaper = FrameShaper(first, settings.short_side_px)
        self._stream = _video_stream(container, self._shaper, settings, time_base, fps, first)
        self._sound = list(reversed(sound))
        self._sound_stream = container.add_stream_from_template(sound[0].stream) if sound else None
        self._durations: dict[int, int] = {}

    def add(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Encode a frame shown from `pts` for `duration`, in units of the time base."""
        shaped = self._shaper.shape(frame)
        shaped.pts, shaped.time_base, shaped.duration = pts, self._time_base, duration
        # The source's picture types would be taken for orders.
        shaped.pict_type = PictureType.NONE
        self._durations[pts] = duration
        self._mux(self._stream.encode(shaped))

    def finish(self) -> None:
        """Write what the encoder still holds, and the rest of the sound."""
        self._mux(self._stream.encode(None))
        while self._sound:
            self._container.mux(self._sound.pop())

    def _mux(self, packets: Sequence[Packet[VideoStream]]) -> None:
        for packet in packets:
            # The muxer takes the last frame's length from its packet, where the encoder leaves a guess.
            packet.duration = self._durations.pop(packet.pts or 0, packet.duration)
            while self._sound and _seconds(self._sound[-1]) <= _seconds(packet):
                self._container.mux(self._sound.pop())
            self._container.mux(packet)


def _seconds(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _video_stream(
    container: OutputContainer, shaper: FrameShaper, settings: EncodeSettings, time_base: Fraction, fps: float, first: VideoFrame
) -> VideoStream:
    try:
        stream: VideoStream = container.add_stream(settings.encoder, rate=Fraction(fps).limit_denominator(1001) if fps > 0 else 25)
    except (av.error.FFmpegError, ValueError) as error:
        raise RecipeError(f"encoder {settings.encoder!r}: this ffmpeg has none that mp4 takes; `shardprep doctor` lists codecs") from error
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = shaper.width, shaper.height, "yuv420p"
    context.time_base = time_base
    context.options = {"crf": str(settings.crf), "preset": settings.preset}
    context.thread_count, context.thread_type = settings.threads, ThreadType.FRAME
    context.flags |= Flags.bitexact | Flags.closed_gop
    context.color_range, context.colorspace = shaper.color_range, shaper.colorspace
    context.color_primaries, context.color_trc = shaper.color_primaries, shaper.color_trc
    return stream
