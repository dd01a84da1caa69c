"""Small files that ask for gigabytes: they fail, and what lies beside them goes through."""

from __future__ import annotations

import struct
from pathlib import Path

from shardprep.stages.probe_media import ProbeMedia
from shardprep.testing.videos import Shot, draw, encode
from tests.fates import fates, run_over

NUM_FRAMES = 85_000_000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def full(kind: bytes, *parts: bytes) -> bytes:
    return box(kind, bytes(4), *parts)


def bomb() -> bytes:
    """Return an MP4 of 592 bytes that says of itself that it has 85 million frames."""
    entry = bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 64, 48) + b"\0\x48\0\0\0\x48\0\0" + bytes(4) + b"\0\1" + bytes(32)
    table = box(
        b"stbl",
        full(b"stsd", struct.pack(">I", 1), box(b"mp4v", entry, b"\0\x18\xff\xff")),
        full(b"stts", struct.pack(">III", 1, NUM_FRAMES, 1)),
        full(b"stsc", struct.pack(">IIII", 1, 1, NUM_FRAMES, 1)),
        full(b"stsz", struct.pack(">II", 1, NUM_FRAMES)),
        full(b"stco", struct.pack(">II", 1, 600)),
    )
    place = box(b"dinf", full(b"dref", struct.pack(">I", 1), box(b"url ", b"\0\0\0\1")))
    media = box(
        b"mdia",
        full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1000, 1000, 0x55C4, 0)),
        full(b"hdlr", bytes(4), b"vide", bytes(12), b"v\0"),
        box(b"minf", box(b"vmhd", b"\0\0\0\1", bytes(8)), place, table),
    )
    track = box(b"tkhd", b"\0\0\0\7", struct.pack(">IIIII", 0, 0, 1, 0, 1000), bytes(16), _MATRIX, struct.pack(">II", 64 << 16, 48 << 16))
    movie = full(b"mvhd", struct.pack(">IIII", 0, 0, 1000, 1000), b"\0\1\0\0\1\0\0\0", bytes(8), _MATRIX, bytes(24), struct.pack(">I", 2))
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", movie, box(b"trak", track, media)) + box(b"mdat", bytes(8))


def test_a_video_that_asks_for_gigabytes_fails_and_the_others_go_through(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "bomb.mp4").write_bytes(bomb())
    (files / "good.mp4").write_bytes(encode(draw([Shot(seconds=0.2)], height=32, width=32)))
    assert (files / "bomb.mp4").stat().st_size < 700
    run_over(files, tmp_path / "out", ProbeMedia(), memory="512MiB")
    found = {key.partition("-")[0]: (fate.fate, fate.reason) for key, fate in fates(tmp_path / "out").items()}
    assert found == {"bomb": ("failed", "out-of-memory"), "good": ("kept", None)}
