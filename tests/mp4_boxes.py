"""MP4 files made box by box, so that each may say what no writer would."""

from __future__ import annotations

import struct

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def long_box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box whose size has 64 bits."""
    data = b"".join(parts)
    return struct.pack(">I4sQ", 1, kind, 16 + len(data)) + data


def full(kind: bytes, *parts: bytes) -> bytes:
    return box(kind, bytes(4), *parts)


def numbers(kind: bytes, *values: int) -> bytes:
    """Return a box of version 0 with numbers of 32 bits."""
    return full(kind, struct.pack(f">{len(values)}I", *values))


ONE_FRAME = {b"stts": (1, 1, 1), b"stsc": (1, 1, 1, 1), b"stsz": (0, 1, 8), b"stco": (1, 600)}


def track(*, tables: bytes | None = None, handler: bytes = b"vide", edits: bytes = b"") -> bytes:
    """Return a track of one frame, or with `tables` in place of the four that count its frames."""
    picture = bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 64, 48) + b"\0\x48\0\0\0\x48\0\0" + bytes(4) + b"\0\1" + bytes(32)
    sound = bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHHHI", 1, 8, 0, 0, 8000 << 16)
    entry = box(b"sowt", sound) if handler == b"soun" else box(b"mp4v", picture, b"\0\x18\xff\xff")
    if tables is None:
        tables = b"".join(numbers(kind, *values) for kind, values in ONE_FRAME.items())
    media = box(
        b"mdia",
        full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1000, 1000, 0x55C4, 0)),
        full(b"hdlr", bytes(4), handler, bytes(12), b"v\0"),
        box(
            b"minf",
            box(b"vmhd", b"\0\0\0\1", bytes(8)),
            box(b"dinf", full(b"dref", struct.pack(">I", 1), box(b"url ", b"\0\0\0\1"))),
            box(b"stbl", full(b"stsd", struct.pack(">I", 1), entry), tables),
        ),
    )
    shown = struct.pack(">II", 64 << 16, 48 << 16)
    head = box(b"tkhd", b"\0\0\0\7", struct.pack(">IIIII", 0, 0, 1, 0, 1000), bytes(16), _MATRIX, shown)
    return box(b"trak", head, edits, media)


def movie_box(*tracks: bytes) -> bytes:
    """Return what a `moov` holds."""
    head = full(b"mvhd", struct.pack(">IIII", 0, 0, 1000, 1000), b"\0\1\0\0\1\0\0\0", bytes(8), _MATRIX, bytes(24), struct.pack(">I", 2))
    return head + b"".join(tracks)


def mp4(*tracks: bytes, fragments: bytes = b"", num_data_bytes: int = 8) -> bytes:
    """Return a file with these tracks; fragments are announced where there are any."""
    announced = box(b"mvex", numbers(b"trex", 1, 1, 1, 0, 0)) if fragments else b""
    return FILE_TYPE + box(b"moov", movie_box(*tracks), announced) + fragments + box(b"mdat", bytes(num_data_bytes))


FILE_TYPE = box(b"ftyp", b"isom\0\0\2\0isom")


def frames_of_one_byte(count: int) -> bytes:
    """Return the tables of so many frames of one byte each, all in one chunk: 80 bytes, however many they are."""
    values = {b"stts": (1, count, 1), b"stsc": (1, 1, count, 1), b"stsz": (1, count), b"stco": (1, 600)}
    return b"".join(numbers(kind, *numbers_of) for kind, numbers_of in values.items())


def fragment(count: int, flags: int = 0, fields: bytes = b"") -> bytes:
    """Return a fragment whose one run claims `count` frames."""
    run = box(b"trun", struct.pack(">II", flags, count), fields)
    return box(b"moof", numbers(b"mfhd", 1), box(b"traf", box(b"tfhd", struct.pack(">II", 0x20000, 1)), run))
