"""Animated WebP, which ffmpeg does not decode: Pillow shows its frames, and a lossless temporary video holds them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.packet import Packet

from shardprep.core.blob import Blob, TempBlob, read_blob
from shardprep.media.scratch import ScratchFile, muxing

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image

MAX_COPY_BYTES = 8 << 30
"""What the frames of one file may take on the disk, uncompressed: 1,000 frames of 1920x1080."""
MAX_FILE_BYTES = 256 << 20
"""The file is in memory three times: ours, Pillow's and libwebp's."""
COPY_NAME = "lossless copy of a webp"
"""The name of such a video's container, by which the timeline knows it."""
_MAX_SIDE_PX = 1 << 14
"""No WebP picture has a longer side; the canvas of an animation may claim one."""
_PIXEL_FORMAT, _PIXEL_BYTES = "argb", 4
"""In a mov a row of 3-byte pixels would have to have an even number of bytes."""
_MILLISECOND = Fraction(1, 1000)
# As in browsers and ffmpeg's GIF demuxer: no time, or next to none, means 100 ms.
_SHORTEST_MS, _USUAL_MS = 10, 100


class BadWebp(Exception):
    """An animated WebP cannot be decoded; `reason` is that of a DecodeError."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LosslessCopy(TempBlob):
    """The frames of an animated WebP as a video of RGB frames, in an unnamed temporary file."""

    def open(self) -> io.BufferedReader:
        return _NamedReader(super().open().detach(), 1 << 18)


class _NamedReader(io.BufferedReader):
    """Tells its container's name, which is how the timeline knows where the frames come from."""

    name = COPY_NAME


def copy_frames(blob: Blob, max_pixels: int) -> LosslessCopy:
    """Return all frames of an animated WebP as a video: whole canvases, transparent ones over black, times in ms, played once.

    Of a file that is cut short the frames that are there. Raises BadWebp `damaged`, `decode-error`, `too-large`.
    """
    if blob.size > MAX_FILE_BYTES:
        raise BadWebp("too-large", f"webp: an animation of {blob.size} bytes; at most {MAX_FILE_BYTES} are read; make an mp4 of it first")
    data = _as_far_as_there(read_blob(blob))
    width, height = _canvas(data, max_pixels)
    file, shown_ms = ScratchFile(), 0
    with muxing(file, "mov") as container:
        stream = _add_stream(container, width, height)
        for rgb, milliseconds in _frames(data):
            for packet in _packets(stream, rgb):
                packet.pts = packet.dts = shown_ms
                packet.duration, packet.time_base = milliseconds, _MILLISECOND
                container.mux(packet)
            shown_ms += milliseconds
    return LosslessCopy(file)


def stored_pixel_format(blob: Blob) -> str:
    """Return how the first frame is stored, as ffprobe says it of a still WebP: `yuv420p`, `yuva420p` (lossy) or `argb` (lossless)."""
    formats = {b"VP8L": "argb", b"ALPH": "yuva420p", b"VP8 ": "yuv420p"}
    data = read_blob(blob)
    for kind, start, end in _chunks(data, 12, len(data)):
        if kind == b"ANMF":
            return next((formats[inner] for inner, _, _ in _chunks(data, start + 16, end) if inner in formats), "unknown")
    return "unknown"


def _add_stream(container: OutputContainer, width: int, height: int) -> VideoStream:
    stream = container.add_stream("rawvideo", rate=1000)
    stream.width, stream.height, stream.pix_fmt = width, height, _PIXEL_FORMAT
    stream.time_base = stream.codec_context.time_base = _MILLISECOND
    return stream


def _packets(stream: VideoStream, rgb: np.ndarray) -> list[Packet]:
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=_PIXEL_FORMAT)
    frame.time_base = _MILLISECOND
    return stream.encode(frame)


def _canvas(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return width and height, before anything of that size is allocated."""
    if len(data) < 30:
        raise BadWebp("damaged", f"webp: {len(data)} bytes are too few for an animation")
    width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
    if width * height > max_pixels:
        raise BadWebp("too-large", f"webp: frames of {width}x{height} pixels; at most {max_pixels} pixels are decoded")
    if max(width, height) > _MAX_SIDE_PX:
        raise BadWebp("too-large", f"webp: a canvas of {width}x{height} pixels; at most {_MAX_SIDE_PX} on a side are decoded")
    return width, height


def _frames(data: bytes) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each canvas, uint8 [height, width, 3], and how many milliseconds it is shown."""
    from PIL import Image

    count = 0
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            _check_room(image)
            for place in range(image.n_frames):
                image.seek(place)
                image.load()
                shown = np.asarray(_over_black(image))
                duration = image.info["duration"]
                yield shown, duration if duration > _SHORTEST_MS else _USUAL_MS
                count += 1
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "decode-error" if count else "damaged"
        raise BadWebp(reason, f"webp: Pillow says: {error}; after frame {count - 1}" if count else f"webp: Pillow says: {error}") from error


def _check_room(image: Image) -> None:
    needed = image.width * image.height * _PIXEL_BYTES * image.n_frames
    if needed > MAX_COPY_BYTES:
        words = f"{image.n_frames} frames of {image.width}x{image.height} take {needed} bytes of temporary space, at most {MAX_COPY_BYTES}"
        raise BadWebp("too-large", f"webp: {words}; make an mp4 of it first")


def _over_black(image: Image) -> Image:
    from PIL import Image as pillow

    if image.mode == "RGB":
        return image
    return pillow.alpha_composite(pillow.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA")).convert("RGB")


def _as_far_as_there(data: bytes) -> bytes:
    """Return a file that is cut short without its torn last chunk, and with its true length in the header; others as they are."""
    (length,) = struct.unpack_from("<I", data, 4)
    if 8 + length <= len(data):
        return data
    end = max((end for _, _, end in _chunks(data, 12, len(data))), default=12)
    return data[:4] + struct.pack("<I", end - 8) + data[8:end]


def _chunks(data: bytes, position: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end (with padding) of the chunks that lie whole in `[position, stop)` (RFC 9649, 2.3)."""
    while position + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if end > stop:
            return
        yield kind, position + 8, end
        position = end
