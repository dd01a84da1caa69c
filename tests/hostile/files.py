"""Hostile files, each with what must become of it; contents are generated, names are what the file system allows."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shardprep.testing import videos


@dataclass(frozen=True, kw_only=True)
class Lost:
    """How a file fails: where, why, and words that its message must have."""

    stage: str
    reason: str
    words: str
    as_child: bool = False
    """Whether the clip fails and not the file."""


@dataclass(frozen=True, kw_only=True)
class Through:
    """What is known of a file that goes through: columns of its clip."""

    width: int
    height: int
    num_frames: int


Fate = Lost | Through


def good() -> bytes:
    """A small video that goes through wherever it lies."""
    return videos.encode(videos.draw([videos.Shot(seconds=0.5, px_per_second=40, seed=1)], height=48, width=64))


GOOD = Through(width=64, height=48, num_frames=12)


def lying_mp4() -> bytes:
    """An mp4 whose boxes claim 65535x65535; its pictures are 160x120 and say so."""
    data = videos.encode(videos.draw([videos.Shot(seconds=0.5, seed=16)]))
    in_pixels = data.replace(struct.pack(">HH", 160, 120), struct.pack(">HH", 65535, 65535))
    lie = in_pixels.replace(struct.pack(">II", 160 << 16, 120 << 16), struct.pack(">II", 65535 << 16, 65535 << 16))
    assert len({data, in_pixels, lie}) == 3, "both boxes were found"
    return lie


def huge_png() -> bytes:
    """A picture of 65535x65535 pixels in 100 bytes."""
    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def huge_gif() -> bytes:
    """An animation whose screen is 65535x65535."""
    data = videos.encode(videos.draw([videos.Shot(seconds=0.2, seed=16)]), container="gif", codec="gif", pixel_format="rgb8")
    return data[:6] + struct.pack("<HH", 65535, 65535) + data[10:]


def moving_webp() -> bytes:
    """An animated WebP."""
    file = io.BytesIO()
    first, *others = map(Image.fromarray, videos.draw([videos.Shot(seconds=0.5, px_per_second=40, seed=1)], height=48, width=64))
    first.save(file, "webp", save_all=True, append_images=others, duration=40)
    return file.getvalue()


def huge_webp() -> bytes:
    """An animated WebP that claims a canvas of 16384x16384."""
    data = moving_webp()
    return data[:24] + b"\xff\x3f\x00" * 2 + data[30:]


LIST_OF_FILES = b"ffconcat version 1.0\nfile secret.bin\n"
"""ffmpeg's own list of files: what it names lies where the command runs."""
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:secret.bin\n#EXT-X-ENDLIST\n"
ADDRESS = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 50404 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
"""A session description: ffmpeg would open the port and wait for a video to come."""

CONTENTS: Mapping[str, tuple[Callable[[], bytes], Fate]] = {
    "truncated.mp4": (videos.truncated, Lost(stage="probe_media", reason="not-a-video", words="cut short")),
    "truncated-after-index.mp4": (videos.truncated_after_index, Lost(stage="probe_media", reason="truncated", words="ends at byte")),
    "damaged.mp4": (videos.damaged, Lost(stage="probe_media", reason="decode-error", words="h264")),
    "empty.mp4": (videos.empty, Lost(stage="probe_media", reason="empty-file", words="the file is empty")),
    "text.mp4": (videos.text_as_video, Lost(stage="probe_media", reason="not-a-video", words="no container that ffmpeg can read")),
    "list-of-files.mp4": (lambda: LIST_OF_FILES, Lost(stage="probe_media", reason="not-a-video", words="no container")),
    "playlist.mp4": (lambda: PLAYLIST, Lost(stage="probe_media", reason="not-a-video", words="no container")),
    "address.mp4": (lambda: ADDRESS, Lost(stage="probe_media", reason="not-a-video", words="no container")),
    "audio-only.mp4": (videos.audio_only, Lost(stage="probe_media", reason="no-video-stream", words="holds audio")),
    "huge-claim.avi": (videos.huge_claim, Lost(stage="probe_media", reason="decode-error", words="before the first frame")),
    "huge-claim-image.png": (huge_png, Lost(stage="probe_media", reason="decode-error", words="before the first frame")),
    "moving.webp": (moving_webp, Through(width=64, height=48, num_frames=12)),
    "torn.webp": (lambda: moving_webp()[:-100], Lost(stage="probe_media", reason="truncated", words="its RIFF chunk ends at byte")),
    "vast.webp": (huge_webp, Lost(stage="probe_media", reason="too-large", words="at most 67108864 pixels are decoded")),
    "huge-claim-too.gif": (huge_gif, Lost(stage="probe_media", reason="decode-error", words="before the first frame")),
    "lying.mp4": (lying_mp4, Through(width=160, height=120, num_frames=12)),
    "one-pixel.mkv": (videos.one_pixel, Lost(stage="cut_clips", reason="too-small", words="1x1 pixels", as_child=True)),
    "one-frame.mp4": (videos.one_frame, Through(width=160, height=120, num_frames=1)),
    "zero-duration.mkv": (videos.zero_duration, Through(width=160, height=120, num_frames=5)),
    "odd-size.mp4": (videos.odd_size, Through(width=100, height=74, num_frames=12)),
}
"""Files by name: what they hold and what becomes of them."""

NAMES = (
    "with space.mp4",
    "  spaces around  .mp4",
    "'single'.mp4",
    '"double".mp4',
    "new\nline.mp4",
    "tab\tand\rreturn.mp4",
    "escape\x1b[31m\x07.mp4",
    "-rf.mp4",
    "--output.mp4",
    "a.b..c.mp4",
    "ends.with.dot..mp4",
    "UPPER.MP4",
    "back\\slash.mp4",
    "percent%s%n%41.mp4",
    "{brace,s}.mp4",
    "[star]*?.mp4",
    "query?a=b#c.mp4",
    "colons::a://b.mp4".replace("//", ":"),
    "$(touch executed).mp4",
    "`touch executed`.mp4",
    "; touch executed;.mp4",
    "| touch executed.mp4",
    "&& touch executed &.mp4",
    "$HOME ~ !!.mp4",
    "<script>[bold].mp4",
    "café.mp4",
    "cafe\u0301.mp4",
    "Case.mp4",
    "case.mp4",
    "пример.mp4",
    "例え.mp4",
    "測試.mp4",
    "🎬.mp4",
    "\u202egp4.mp4",
    "one/same.mp4",
    "two/same.mp4",
    "x" * 251 + ".mp4",
    "\udcff\udcfe.mp4",
)
"""Names of good videos; the last one is no UTF-8."""


def make_contents(folder: Path) -> None:
    """Write the files with hostile contents."""
    for name, (content, _) in CONTENTS.items():
        (folder / name).write_bytes(content())


def make_names(folder: Path) -> None:
    """Write a good video under every hostile name."""
    content = good()
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def make_links(folder: Path) -> None:
    """Write links that lead in circles, nowhere, out of the folder and to a file that is there, and what is hidden or no file at all."""
    (folder / "real.mp4").write_bytes(good())
    (folder / "alias.mp4").symlink_to("real.mp4")
    (folder / "loop").symlink_to(".")
    (folder / "up").symlink_to("..")
    (folder / "itself.mp4").symlink_to("itself.mp4")
    (folder / "nowhere.mp4").symlink_to("not-there.mp4")
    (folder / ".hidden.mp4").write_bytes(good())
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
