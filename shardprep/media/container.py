"""Opening a blob as a video, and the error that says why it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

import av
import av.error

from shardprep.core.animation import is_animated_webp
from shardprep.core.blob import Blob
from shardprep.errors import ShardprepError
from shardprep.media.animated_webp import BadWebp, copy_frames
from shardprep.media.box_counts import FalseCount, check_counts

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_PIXELS = 16384 * 16384 // 4
"""Largest frame that is decoded, in pixels: a header may claim anything, and a frame is allocated before it is filled."""

_READ_BYTES = 1 << 17

# Data opens nothing: ffmpeg takes a text for a list of files to read (ffconcat) or for an address to listen on (SDP).
_NO_PROTOCOL = "none"


class DecodeError(ShardprepError):
    """A video cannot be read. `reason` is kebab-case and can be counted; the message holds the decoder's own words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def open_video(blob: Blob, *, threads: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open `blob` and yield its container and video stream, ready to decode.

    Of several streams it is the first that is marked as default, or else the first; cover pictures do not count.

    Raises DecodeError: `damaged`, `not-a-video`, `no-video-stream`, `no-decoder`, `too-large`; of an animated WebP, which is
    decoded here and now, also `decode-error`.
    """
    with ExitStack() as stack:
        container = stack.enter_context(open_container(blob, max_pixels=max_pixels))
        if container.format.name == "webp_pipe" and is_animated_webp(blob):
            container = stack.enter_context(open_container(_copy_frames(blob, max_pixels), max_pixels=max_pixels))
        stream = _video_stream(container)
        _check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        yield container, stream


@contextmanager
def open_container(blob: Blob, *, max_pixels: int = MAX_PIXELS) -> Iterator[InputContainer]:
    """Open `blob` as a container of any streams; DecodeError `empty-file`, `damaged` or `not-a-video` where it is none."""
    if not blob.size:
        raise DecodeError("empty-file", "the file is empty")
    with blob.open() as file:
        _check_counts(file, blob.size, is_header_enough=True)
        file.seek(0)
        with _open(file, max_pixels) as container:
            yield container


def check_fragments(blob: Blob) -> None:
    """Raise DecodeError `damaged` where the fragments of an mp4 claim more than they hold; to be called before all packets are read."""
    with blob.open() as file:
        _check_counts(file, blob.size, is_header_enough=False)


def _check_counts(file: BinaryIO, size: int, *, is_header_enough: bool) -> None:
    try:
        check_counts(file, size, is_header_enough=is_header_enough)
    except FalseCount as error:
        raise DecodeError("damaged", str(error)) from None


def decoder_words(error: av.error.FFmpegError) -> str:
    """Return ffmpeg's message and the call that gave it."""
    call = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{call}"


def _open(file: object, max_pixels: int) -> InputContainer:
    options = {"max_pixels": str(max_pixels), "threads": "1", "protocol_whitelist": _NO_PROTOCOL}
    try:
        return av.open(file, mode="r", metadata_errors="replace", buffer_size=_READ_BYTES, options=options)
    except av.error.FFmpegError as error:
        raise DecodeError("not-a-video", f"no container that ffmpeg can read, or one cut short: {error.strerror}") from error


def _copy_frames(blob: Blob, max_pixels: int) -> Blob:
    try:
        return copy_frames(blob, max_pixels)
    except BadWebp as error:
        raise DecodeError(error.reason, str(error)) from error


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams but for cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]


def _video_stream(container: InputContainer) -> VideoStream:
    streams = video_streams(container)
    if not streams:
        held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise DecodeError("no-video-stream", f"no video stream; the {container.format.name} file holds {held}")
    # ffmpeg too takes what is marked first. Sizes and bit rates, which it asks after that, do not say which was meant.
    chosen = next((stream for stream in streams if stream.disposition & av.stream.Disposition.default), streams[0])
    if chosen.codec_context is None:
        raise DecodeError("no-decoder", f"no decoder for the video stream of the {container.format.name} file")
    return chosen


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DecodeError("too-large", f"frames of {width}x{height} pixels; at most {max_pixels} pixels are decoded")
