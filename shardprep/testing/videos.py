"""Small generated videos, ordinary and hostile; `python -m shardprep.testing.videos DIR` writes those of the demo."""

from __future__ import annotations

import io
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from shardprep.core.blob import BytesBlob, TempBlob, read_blob
from shardprep.media.container import open_video
from shardprep.media.encoders import reproducible_options
from shardprep.media.orientation import Orientation
from shardprep.media.resize import Image
from shardprep.media.scratch import muxing

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

TIME_BASE = Fraction(1, 12000)
"""Holds the frame times of 24, 25 and 30 per second exactly."""
_SOUND_RATE = 16000


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One shot: a picture of its own that moves sideways at a known speed."""

    seconds: float
    px_per_second: float = 0.0
    seed: int = 0
    text: str = ""
    fade_seconds: float = 0.0
    """Fades in from black and out to black."""


def draw(shots: Sequence[Shot], *, height: int = 120, width: int = 160, fps: float = 24) -> Iterator[Image]:
    """Yield RGB frames of the shots, one after the other."""
    for shot in shots:
        num = round(shot.seconds * fps)
        picture = _picture(shot.seed, height, width)
        for k in range(num):
            frame = np.roll(picture, round(k * shot.px_per_second / fps), axis=1)
            if shot.fade_seconds:
                edge = min(k, num - 1 - k) / fps
                frame = (frame * min(1.0, edge / shot.fade_seconds)).astype(np.uint8)
            yield _written(frame, shot.text) if shot.text else frame


def encode(
    frames: Iterable[Image],
    *,
    fps: float = 24,
    times: Sequence[float] | None = None,
    container: str = "mp4",
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    mirrored: bool = False,
    pixel_aspect: Fraction | None = None,
    key_every: int = 250,
    sound_seconds: float = 0.0,
    beep: tuple[float, float] | None = None,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Return the frames as a video file.

    `times` are presentation seconds where they are not even; `rotation` is how far a player turns the frames, counter-
    clockwise, after it has `mirrored` them left to right; `sound_seconds` adds a tone of that length, silent but for `beep` where
    that is given.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options={"fflags": "+bitexact"}) as out:
        sound = _add_sound(out) if sound_seconds else None
        images = iter(frames)
        first = next(images)
        stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        assert isinstance(stream, VideoStream), "the codecs used here are video codecs"
        stream.height, stream.width, stream.pix_fmt = first.shape[0], first.shape[1], pixel_format
        # An AVI has a fixed rate, and frames only on its beat.
        time_base = 1 / Fraction(fps).limit_denominator(1001) if container == "avi" else TIME_BASE
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = key_every
        stream.codec_context.thread_count = 1
        stream.codec_context.options = _encoder_options(codec, options or {})
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation or mirrored:
            stream.set_display_matrix(Orientation(rotation // 90, mirrored).matrix)
        for k, image in enumerate([first, *images]):
            frame = VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round((times[k] if times else k / fps) / time_base), time_base
            frame.pict_type = PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound:
            sound(sound_seconds, beep)
    return file.getvalue()


def _encoder_options(codec: str, options: Mapping[str, str]) -> dict[str, str]:
    if codec != "libx264":
        return dict(options)
    params = ":".join(filter(None, [options.get("x264-params"), reproducible_options(codec).get("x264-params")]))
    # Key frames lie where `key_every` says, not where x264 sees a cut.
    return {"preset": "veryfast", "sc_threshold": "0", **options} | ({"x264-params": params} if params else {})


THREE_SHOTS = (Shot(seconds=1.5, px_per_second=40, seed=1), Shot(seconds=1, seed=2), Shot(seconds=1.5, px_per_second=-80, seed=3))
"""Cuts at 1.5 s and 2.5 s; 4 s in all."""


@cache  # many tests and hostile files begin with it
def three_shots(**settings: int) -> bytes:
    """Three shots with cuts at 1.5 and 2.5 s, and sound."""
    return encode(draw(THREE_SHOTS, **settings), sound_seconds=4)


def moving(px_per_second: float, *, fps: float = 24, seconds: float = 2, height: int = 160, width: int = 240) -> bytes:
    """One shot that moves sideways at a known speed."""
    return encode(draw([Shot(seconds=seconds, px_per_second=px_per_second, seed=5)], height=height, width=width, fps=fps), fps=fps)


def still(seconds: float = 2) -> bytes:
    """A picture that does not move."""
    return encode(draw([Shot(seconds=seconds, seed=4)]))


def with_text() -> bytes:
    """Two shots with burnt-in text."""
    return encode(draw([Shot(seconds=1.5, px_per_second=30, seed=6, text="BREAKING NEWS"), Shot(seconds=1.5, seed=7, text="SUBSCRIBE")]))


def fades() -> bytes:
    """Two shots that fade to black and from black, with the darkest moment at 2 s."""
    return encode(draw([Shot(seconds=2, seed=8, fade_seconds=0.8), Shot(seconds=2, seed=9, fade_seconds=0.8)]))


VARIABLE_TIMES = tuple(k / 24 if k < 24 else 1 + (k - 24) / 12 for k in range(48))
"""24 frames per second for one second, then 12 per second for two."""


def variable_rate() -> bytes:
    """48 frames, shown at `VARIABLE_TIMES`, with a cut at 1.5 s (frame 30)."""
    shots = [Shot(seconds=30 / 24, px_per_second=20, seed=10), Shot(seconds=18 / 24, seed=11)]
    return encode(draw(shots), times=VARIABLE_TIMES)


def rotated(degrees: int) -> bytes:
    """Half a second that a player turns counter-clockwise by `degrees`; the upper left corner of the stored frame is red."""
    return encode((_marked(frame) for frame in draw([Shot(seconds=0.5, seed=12)])), rotation=degrees)


def numbered(
    count: int, *, container: str = "mp4", codec: str = "libx264", key_every: int = 250, open_gop: bool = False, fps: float = 24
) -> bytes:
    """Frames that show their index, for `number_in` to read; at most 256."""
    bits = (np.unpackbits(np.array([k], np.uint8)) * np.uint8(255) for k in range(count))
    frames = (np.repeat(np.broadcast_to(row[None, :, None], (48, 8, 3)), 8, axis=1) for row in bits)
    x264 = {"x264-params": "open-gop=1:bframes=3:b-adapt=0"} if open_gop else {"x264-params": "bframes=3:b-adapt=0"}
    return encode(frames, fps=fps, container=container, codec=codec, key_every=key_every, options=x264 if codec == "libx264" else {})


def number_in(image: Image) -> int:
    """Return the index that a frame of `numbered` shows, at any size."""
    gray = image if image.ndim == 2 else image.mean(axis=2)
    height, width = gray.shape
    return int(np.packbits(gray[height // 2, width // 16 :: width // 8][:8] > 128)[0])


def one_frame() -> bytes:
    """A video of a single frame."""
    return encode(draw([Shot(seconds=1 / 24, seed=13)]))


def one_pixel() -> bytes:
    """Frames of 1x1 pixel."""
    return encode([np.full((1, 1, 3), 200, np.uint8)] * 5, container="matroska", codec="ffv1", pixel_format="bgr0")


def odd_size() -> bytes:
    """Frames of 101x75 pixels."""
    return encode(draw([Shot(seconds=0.5, seed=14)], height=75, width=101), codec="mpeg4")


def truncated() -> bytes:
    """An mp4 whose second half is missing; its index lies at the end, as usual."""
    data = three_shots()
    return data[: len(data) // 2]


def truncated_after_index() -> bytes:
    """An mp4 with its index in front whose second half is missing."""
    data = _copied(three_shots(), "mp4", lambda packet: None)
    return data[: len(data) // 2]


def damaged() -> bytes:
    """An mp4 whose pictures are nonsense from the middle on."""
    data = three_shots()
    return damage(data, *range(48, 96))


def damage(data: bytes, *places: int) -> bytes:
    """Return the video with the packets at `places` in decoding order overwritten, but for their first bytes."""
    damaged_data, noise = bytearray(data), np.random.default_rng(0)
    with open_video(BytesBlob(data)) as (container, stream):
        packets = [(packet.pos or 0, packet.size) for packet in container.demux(stream) if packet.size]
    for place in places:
        position, size = packets[place]
        head = min(16, size // 2)
        damaged_data[position + head : position + size] = noise.bytes(size - head)
    return bytes(damaged_data)


def empty() -> bytes:
    """No byte at all."""
    return b""


def text_as_video() -> bytes:
    """Words."""
    return b"This is no video.\n" * 100


def audio_only() -> bytes:
    """An mp4 that holds a tone and no picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        _add_sound(out)(1, None)
    return file.getvalue()


def zero_duration() -> bytes:
    """Five frames, all shown at time 0."""

    def at_zero(packet: Packet[VideoStream]) -> None:
        packet.pts = packet.dts = 0

    return _copied(encode(draw([Shot(seconds=5 / 24, seed=15)]), codec="mjpeg", pixel_format="yuvj420p"), "matroska", at_zero)


def huge_claim() -> bytes:
    """An AVI whose headers claim frames of 65535x65535 pixels."""
    size = struct.pack("<ii", 160, 120)
    data = encode(draw([Shot(seconds=0.2, seed=16)]), container="avi", codec="mjpeg", pixel_format="yuvj420p")
    data = data.replace(size, struct.pack("<ii", 65535, 65535))
    return data.replace(struct.pack(">HH", 120, 160), struct.pack(">HH", 65535, 65535))


ORDINARY: Mapping[str, Callable[[], bytes]] = {
    "three-shots.mp4": three_shots,
    "with-text.mp4": with_text,
    "still.mp4": still,
    "fades.mp4": fades,
    "variable-rate.mp4": variable_rate,
    "rotated.mp4": lambda: rotated(90),
    "odd-size.mp4": odd_size,
    "one-frame.mp4": one_frame,
}
"""Videos that go through."""

HOSTILE: Mapping[str, Callable[[], bytes]] = {
    "truncated.mp4": truncated,
    "truncated-after-index.mp4": truncated_after_index,
    "damaged.mp4": damaged,
    "empty.mp4": empty,
    "text.mp4": text_as_video,
    "audio-only.mp4": audio_only,
    "one-pixel.mkv": one_pixel,
    "zero-duration.mkv": zero_duration,
    "huge-claim.avi": huge_claim,
}
"""Files that must meet a clear fate."""


_DEMO_CAPTIONS = {
    "shots with sound.txt": "Three pictures that drift to the left, one after the other.",
    "news.txt": "Breaking news, then a quiet scene.",
}


def make_videos(folder: Path | str) -> list[Path]:
    """Write the demo's videos: three with shots, motion, text and sound, two of them captioned, and a broken one; return their paths."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    made = {
        "shots with sound.mp4": three_shots(height=270, width=480),
        "news.mp4": encode(
            draw([Shot(seconds=2, px_per_second=60, seed=21, text="BREAKING NEWS"), Shot(seconds=2, seed=22)], height=270, width=480)
        ),
        "portrait.mp4": encode(draw([Shot(seconds=3, px_per_second=90, seed=23)], height=480, width=270)),
        "broken.mp4": damaged(),
    }
    for name, data in made.items():
        (target / name).write_bytes(data)
    for name, caption in _DEMO_CAPTIONS.items():
        (target / name).write_text(caption)
    return [target / name for name in made]


def _picture(seed: int, height: int, width: int) -> Image:
    """A smooth picture with a colour of its own and texture everywhere; it continues at its right edge on the left."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
    wrapped = np.concatenate([coarse, coarse[:, :1]], axis=1)
    texture = cv2.resize(wrapped, (width + max(1, width // coarse.shape[1]), height), interpolation=cv2.INTER_LINEAR)[:, :width]
    base = random.integers(40, 216, 3)
    return np.clip(0.5 * texture.astype(np.float64) + 0.5 * base, 0, 255).astype(np.uint8)


def _written(frame: Image, text: str) -> Image:
    frame = np.ascontiguousarray(frame)
    scale = frame.shape[1] / 320
    place = (round(8 * scale), round(frame.shape[0] * 0.9))
    cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), max(1, round(2 * scale)), cv2.LINE_AA)
    return frame


def _marked(frame: Image) -> Image:
    frame = frame // 4
    frame[: frame.shape[0] // 4, : frame.shape[1] // 4] = (255, 0, 0)
    return frame


def _copied(data: bytes, container: str, change: Callable[[Packet[VideoStream]], None]) -> bytes:
    """Return the video stream copied into another container, packet by packet."""
    with open_video(BytesBlob(data)) as (source, stream), tempfile.TemporaryFile(buffering=0) as file:
        with muxing(file, container) as out:
            copied = out.add_stream_from_template(stream, opaque=True)
            for packet in source.demux(stream):
                if packet.size:
                    change(packet)
                    packet.stream = copied
                    out.mux(packet)
        return read_blob(TempBlob(file))


def _add_sound(out: OutputContainer) -> Callable[[float, tuple[float, float] | None], None]:
    """Add an audio stream; the returned function writes a tone of 440 Hz of that many seconds."""
    stream = out.add_stream("aac", rate=_SOUND_RATE, layout="mono")

    def write(seconds: float, beep: tuple[float, float] | None) -> None:
        times = np.arange(round(seconds * _SOUND_RATE)) / _SOUND_RATE
        tone = np.sin(2 * np.pi * 440 * times) * 0.5
        if beep:
            tone[(times < beep[0]) | (times >= beep[1])] = 0
        frame = AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = _SOUND_RATE, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    return write


if __name__ == "__main__":
    for path in make_videos(sys.argv[1]):
        print(path, "(broken on purpose)" if path.stem == "broken" else "")
