"""The counts in the boxes of an mp4 or QuickTime file against the room that they have, before ffmpeg believes them."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

# ffmpeg goes no deeper.
_MAX_DEPTH = 10
# An hour of fragments of a second has some 30,000. A claim behind more boxes meets the limit on memory.
_MAX_BOXES = 1_000_000
_MAX_HEADER_BYTES = 1 << 26
# Unpacking takes as long as reading so many boxes. A file has one compressed header.
_BOXES_PER_UNPACKING = 200_000
_CHUNK_BYTES = 1 << 16

# ffmpeg makes 40 bytes of a frame that a count alone stands for. In a whole file a frame has a byte at least; of one cut short, behind a
# true header, so many may be missing: 10 hours of frames at 50 per second, or of sound in ffmpeg's pieces.
_FREE_ENTRIES = 2_000_000
_SAMPLES_PER_PIECE = 1024

# Whatever lies in these counts for ffmpeg as if it lay in the track itself; `meta` is opened at its handler.
_OPENED = frozenset(b"moov cmov trak mdia minf stbl edts mvex moof traf udta ilst tref wave sinf schi dinf".split())
# Bytes of an entry; its table begins with version, flags and count (ISO/IEC 14496-12, 8.6 and 8.7; stps: QuickTime).
_TABLES = {b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8, b"stss": 4, b"stps": 4, b"elst": 12}


class FalseCount(Exception):
    """A box counts what cannot be there; the message says which."""


def check_counts(file: BinaryIO, size: int, *, is_header_enough: bool = False) -> None:
    """Raise FalseCount where the boxes of an mp4 count more entries than fit into them, or frames that no byte of the file stands for.

    Any other file passes, and so does one that is cut short: its boxes say how long they were. Headers of boxes are read, no tables
    but of edits and chunks of sound. ffmpeg makes room for what a count says before it looks whether that is there.
    `is_header_enough` leaves the fragments out: a long recording has thousands, all over the file.
    """
    _Walk(file, size, _Allowance(size + _FREE_ENTRIES), is_header_enough).boxes(0, None)


@dataclass
class _Allowance:
    """How many entries ffmpeg may still make of counts alone, and how many boxes may still be read."""

    entries: int
    boxes: int = _MAX_BOXES

    def take(self, entries: int, what: str) -> None:
        self.entries -= entries
        if self.entries < 0:
            raise FalseCount(f"{what} {entries:,} frames, more than the file has bytes")


class _Table(NamedTuple):
    """Where the entries of a box lie."""

    start: int
    num_entries: int
    entry_bytes: int


@dataclass
class _Track:
    """What a track says of its frames."""

    tables: dict[bytes, _Table] = field(default_factory=dict)
    handlers: set[bytes] = field(default_factory=set)
    num_frames: int = 0
    is_constant: bool = False
    """Whether one size stands for all frames, so that nothing in the file grows with their number."""
    ticks_per_second: int = 0


class _Walk:
    """One way through the boxes, as ffmpeg goes it."""

    def __init__(self, file: BinaryIO, size: int, allowance: _Allowance, is_header_enough: bool, depth: int = 0) -> None:
        self._file, self._size, self._allowance = file, size, allowance
        self._is_header_enough, self._depth = is_header_enough, depth
        self._track = _Track()
        self._movie_ticks = 0
        self._has_fragments = False

    def boxes(self, position: int, end: int | None) -> None:
        """Look at the boxes from `position` to `end`; None is the end of the file."""
        stop = self._size if end is None else end
        while position + 8 <= min(stop, self._size) and self._allowance.boxes:
            self._allowance.boxes -= 1
            head = self._read(position, 16)
            length, kind = struct.unpack(">I4s", head[:8])
            start = position + 8
            if length == 1 and len(head) == 16:
                (length,), start = struct.unpack(">Q", head[8:]), position + 16
            elif length == 0:
                length = stop - position
            if length < start - position:
                return
            # As for ffmpeg, a box within another ends with it at the latest.
            self._box(kind, start, position + length if end is None else min(position + length, end))
            if end is None and kind == b"moov" and (self._is_header_enough or not self._has_fragments):
                return  # ffmpeg takes no second one, and fragments only of a movie that announces them
            position += length

    def _box(self, kind: bytes, start: int, end: int) -> None:
        if kind in (b"free", b"hoov") and self._read(start + 4, 4) in (b"mvhd", b"cmov"):
            kind = b"moov"  # a writer was stopped before it gave the box its name
        if kind in _OPENED:
            self._open(kind, start, end)
        elif kind == b"meta":
            self._described(start, end)
        elif kind in _TABLES:
            self._table(kind, start, end)
        elif kind in (b"stsz", b"stz2"):
            self._sizes(kind, start, end)
        elif kind == b"trun":
            self._run(start, end)
        elif kind == b"cmvd":
            self._compressed(start, end)
        elif kind == b"hdlr":
            self._track.handlers.add(self._read(start + 8, 4))
        elif kind in (b"mvhd", b"mdhd"):
            self._clock(kind, start)

    def _open(self, kind: bytes, start: int, end: int) -> None:
        self._has_fragments |= kind == b"mvex"
        if self._depth == _MAX_DEPTH:
            return
        outer = self._track
        if kind == b"trak":
            self._track = _Track()
        self._depth += 1
        self.boxes(start, end)
        self._depth -= 1
        if kind == b"trak":
            self._judge(self._track)
            self._track = outer

    def _described(self, start: int, end: int) -> None:
        """Open a `meta`, in which ffmpeg looks at the boxes from the handler on."""
        for position in range(start, min(end, self._size, start + _MAX_HEADER_BYTES), _CHUNK_BYTES):
            data = self._read(position, min(_CHUNK_BYTES, end - position))
            at = next((found.start() for found in re.finditer(b"hdlr", data) if found.start() % 4 == 0), None)
            if at is not None:
                self._open(b"meta", position + at - 4, end)
                return

    def _table(self, kind: bytes, start: int, end: int) -> None:
        version, count = self._numbers(">B3xI", start)
        entry_bytes = 20 if kind == b"elst" and version == 1 else _TABLES[kind]
        room = (end - start - 8) // entry_bytes
        if kind == b"elst":
            # ffmpeg takes as many edits as there is room for, whatever they are said to be.
            count = max(0, room)
        self._check_room(kind, count, room)
        self._track.tables[kind] = _Table(start + 8, count, entry_bytes)

    def _sizes(self, kind: bytes, start: int, end: int) -> None:
        size, count = self._numbers(">4xII", start)
        is_constant = kind == b"stsz" and size != 0
        if not is_constant:
            bits = 32 if kind == b"stsz" else size & 0xFF
            self._check_room(kind, count, (end - start - 12) * 8 // bits if bits else count)
        self._track.num_frames = max(self._track.num_frames, count)
        self._track.is_constant |= is_constant

    def _run(self, start: int, end: int) -> None:
        """A run of frames in a fragment (8.8.8); what has no field for each frame has the same value for all."""
        flags, count = self._numbers(">II", start)
        first = 8 + 4 * (flags & 0x001).bit_count() + 4 * (flags & 0x004).bit_count()
        entry_bytes = 4 * (flags & 0xF00).bit_count()
        if entry_bytes:
            self._check_room(b"trun", count, (end - start - first) // entry_bytes)
        else:
            self._allowance.take(count, "trun claims")

    def _check_room(self, kind: bytes, count: int, room: int) -> None:
        if count > max(0, room):
            raise FalseCount(f"{kind.decode()} says {count:,} entries, the box has room for {max(0, room):,}")

    def _clock(self, kind: bytes, start: int) -> None:
        (version,) = self._numbers(">B", start)
        (ticks,) = self._numbers(">I", start + (20 if version == 1 else 12))
        if kind == b"mvhd":
            self._movie_ticks = ticks
        else:
            self._track.ticks_per_second = ticks

    def _compressed(self, start: int, end: int) -> None:
        """A header in zlib (QuickTime File Format, "Compressed movie resources")."""
        if self._depth == _MAX_DEPTH:
            return
        self._allowance.boxes = max(0, self._allowance.boxes - _BOXES_PER_UNPACKING)
        data = self._read(start + 4, max(0, min(end - start - 4, _MAX_HEADER_BYTES)))
        try:
            header = zlib.decompressobj().decompress(data, _MAX_HEADER_BYTES + 1)
        except zlib.error:
            return  # ffmpeg says so
        if len(header) > _MAX_HEADER_BYTES:
            raise FalseCount(f"the compressed header is longer than {_MAX_HEADER_BYTES >> 20} MiB")
        inner = _Walk(io.BytesIO(header), len(header), self._allowance, self._is_header_enough, self._depth + 1)
        inner.boxes(0, None)
        self._has_fragments |= inner._has_fragments

    def _judge(self, track: _Track) -> None:
        """Take from the allowance what ffmpeg makes of a track."""
        entries = track.num_frames
        if track.is_constant:
            entries = self._num_pieces(track) if self._is_taken_in_pieces(track) else entries
            self._allowance.take(entries, "stsz claims")
        edits = track.tables.get(b"elst")
        if edits is not None and edits.num_entries * entries > self._allowance.entries:
            self._allowance.take(self._num_repeated(track, edits), "elst repeats")

    def _is_taken_in_pieces(self, track: _Track) -> bool:
        """Whether the frames are single samples of sound, each a tick long."""
        times = track.tables.get(b"stts")
        is_sound = b"soun" in track.handlers and b"vide" not in track.handlers
        return is_sound and times is not None and times.num_entries == 1 and self._numbers(">II", times.start)[1] == 1

    def _num_pieces(self, track: _Track) -> int:
        chunks = track.tables.get(b"co64") or track.tables.get(b"stco")
        runs = track.tables.get(b"stsc")
        if chunks is None or runs is None:
            return 0
        pieces, last, last_pieces = 0, 1, 0
        for first, count, _ in self._entries(">III", runs):
            pieces += max(0, first - last) * last_pieces
            last, last_pieces = first, -(-count // _SAMPLES_PER_PIECE)
        return pieces + max(0, chunks.num_entries + 1 - last) * last_pieces

    def _num_repeated(self, track: _Track, edits: _Table) -> int:
        """Return about how many frames the edits show, of which each may show the whole track again (8.6.6)."""
        times = track.tables.get(b"stts")
        ticks = sum(count * delta for count, delta in self._entries(">II", times)) if times else 0
        if not ticks or not self._movie_ticks or not track.ticks_per_second:
            return 0
        track_share = track.ticks_per_second / self._movie_ticks / ticks
        form = ">Qq4x" if edits.entry_bytes == 20 else ">Ii4x"
        shown = sum(min(1.0, duration * track_share) for duration, begins in self._entries(form, edits) if begins >= 0)
        return int(shown * track.num_frames)

    def _entries(self, form: str, table: _Table) -> Iterator[tuple[Any, ...]]:
        position, left = table.start, table.num_entries * table.entry_bytes
        step = _CHUNK_BYTES // table.entry_bytes * table.entry_bytes
        while left > 0:
            data = self._read(position, min(step, left))
            yield from struct.iter_unpack(form, data[: len(data) // table.entry_bytes * table.entry_bytes])
            if len(data) < min(step, left):
                return
            position, left = position + step, left - step

    def _numbers(self, form: str, position: int) -> tuple[Any, ...]:
        """Return the numbers at `position`; zeros behind the end of the file."""
        length = struct.calcsize(form)
        return struct.unpack(form, self._read(position, length).ljust(length, b"\0"))

    def _read(self, position: int, count: int) -> bytes:
        self._file.seek(position)
        return self._file.read(count)
