"""Whether a file is all there: what its container announces against where the file ends, without decoding."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from shardprep.core.blob import Blob

# Some writers of RIFF and ASF round a length up without writing the padding.
_SLACK_BYTES = 8
_MAX_IMAGE_BYTES = 1 << 28


def missing_end(blob: Blob, container: str) -> str | None:
    """Return how a file ends too early, in words; None where it is whole or its format has no way to tell.

    `container` is ffmpeg's name of the format. ffmpeg takes the end of a file for the end of the video, so a half of a
    download would pass. Only what a format states is compared: an element that begins inside the file and ends behind it.
    """
    check = _CHECKS.get(container)
    if check is None:
        return None
    with blob.open() as file:
        return check(file, blob.size)


def announced_seconds(blob: Blob, container: str) -> float | None:
    """Return the length that the header of a Matroska or FLV file states, of the longest of its streams; None where it states none."""
    with blob.open() as file:
        if container == "matroska":
            return _matroska_seconds(file, blob.size)
        if container == "flv":
            return _flv_number(file, "duration")
    return None


def _behind(what: str, end: int, size: int, slack: int = 0) -> str | None:
    """Return the words for an element that is to end at byte `end`."""
    return f"the file ends at byte {size}, its {what} ends at byte {end}" if end > size + slack else None


_BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix free skip wide uuid meta emsg prft pdin pnot udta".split())


def _isobmff(file: BinaryIO, size: int) -> str | None:
    """Walk the boxes of an mp4 (ISO/IEC 14496-12, 4.2)."""
    position = 0
    while position + 8 <= size:
        head = _read(file, position, 16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8 or kind not in _BOXES:
            return None  # 0: to the end of the file; anything else was appended by somebody
        position += length
        if words := _behind(f"box {kind.decode('ascii')!r}", position, size):
            return words
    return None


_SEGMENT, _CLUSTER, _INFO, _SCALE, _DURATION = 0x18538067, 0x1F43B675, 0x1549A966, 0x2AD7B1, 0x4489
# The header, Void, CRC-32, the children of a Segment, and those of a Cluster.
_KNOWN = frozenset(
    {0x1A45DFA3, 0xEC, 0xBF, _SEGMENT, 0x114D9B74, _INFO, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
    | {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854}
)


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Walk the elements of a Matroska or WebM file (RFC 8794, RFC 9559)."""
    for kind, _, end in _elements(file, 0, size, (_SEGMENT, _CLUSTER)):
        if kind not in _KNOWN:
            return None
        if end is not None and (words := _behind(f"element {kind:X}", end, size)):
            return words
    return None


def _matroska_seconds(file: BinaryIO, size: int) -> float | None:
    scale, duration = 1_000_000, None
    for kind, start, end in _elements(file, 0, size, (_SEGMENT, _INFO), is_deep=True):
        if kind == _CLUSTER or end is None or end - start > 8:
            if kind == _CLUSTER:
                break
            continue
        data = _read(file, start, end - start)
        if kind == _SCALE:
            scale = int.from_bytes(data)
        if kind == _DURATION and len(data) in (4, 8):
            (duration,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return duration * scale / 1e9 if duration else None


def _elements(
    file: BinaryIO, position: int, size: int, opened: tuple[int, ...], *, is_deep: bool = False
) -> Iterator[tuple[int, int, int | None]]:
    """Yield (id, start of data, end or None where unknown) of EBML elements one after the other.

    Elements named in `opened` are looked into: all of them with `is_deep`, else those whose end is unknown.
    """
    while position < size:
        head = _read(file, position, 16)
        id_length = _vint_length(head[0]) if head else 0
        if not 1 <= id_length <= 4 or len(head) <= id_length:
            return
        length_length = _vint_length(head[id_length])
        if not length_length:
            return
        kind = int.from_bytes(head[:id_length])
        field = head[id_length : id_length + length_length]
        length = int.from_bytes(field) & ((1 << 7 * length_length) - 1)
        start = position + id_length + length_length
        is_unknown = length == (1 << 7 * length_length) - 1
        yield kind, start, None if is_unknown else start + length
        if is_unknown and kind not in opened:
            return
        position = start if is_unknown or (is_deep and kind in opened) else start + length


def _vint_length(first: int) -> int:
    return 9 - first.bit_length() if first else 0


def _flv(file: BinaryIO, size: int) -> str | None:
    """Walk the tags of an FLV (Adobe, Video File Format Specification, version 10)."""
    if _flv_number(file, "filesize") == size:
        return None
    head = _read(file, 0, 9)
    position = int.from_bytes(head[5:9]) + 4
    while position + 11 <= size:
        tag = _read(file, position, 4)
        if tag[0] & 0x1F not in (8, 9, 18):
            return None
        position += 11 + int.from_bytes(tag[1:4])
        if words := _behind("last tag", position, size):
            return words
        position += 4
    return None


def _flv_number(file: BinaryIO, name: str) -> float | None:
    """Return a number of the metadata that an FLV begins with."""
    head = _read(file, 0, 1 << 16)
    key = struct.pack(">H", len(name)) + name.encode() + b"\x00"
    place = head.find(key)
    if place < 0 or len(head) < place + len(key) + 8:
        return None
    (number,) = struct.unpack(">d", head[place + len(key) : place + len(key) + 8])
    return float(number)


def _mpegts(file: BinaryIO, size: int) -> str | None:
    """Look for a last packet of fewer than 188 bytes (ISO/IEC 13818-1, 2.4.3); 192 on Blu-ray discs, 204 with error correction."""
    head = _read(file, 0, 204 * 4)
    for length, offset in ((188, 0), (192, 4), (204, 0)):
        for start in range(length):
            syncs = head[start + offset :: length][:3]
            if syncs == b"GGG":
                rest = (size - start) % length
                tail = _read(file, size - rest, rest)
                is_packet = len(tail) > offset and tail[offset] == 0x47
                return f"the file ends at byte {size}, {rest} bytes into a packet of {length}" if is_packet else None
    return None


def _riff(file: BinaryIO, size: int) -> str | None:
    """Walk the RIFF chunks of an AVI; one over 1 GiB has several (OpenDML)."""
    position = 0
    while position + 12 <= size:
        kind, length = struct.unpack("<4sI", _read(file, position, 8))
        # A writer that could not go back left 0 or all ones.
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):
            return None
        position += 8 + length + length % 2
        if words := _behind("RIFF chunk", position, size, _SLACK_BYTES):
            return words
    return None


def _webp(file: BinaryIO, size: int) -> str | None:
    """Compare the length of the RIFF chunk, which no encoder rounds (RFC 9649, 2.4)."""
    return _behind("RIFF chunk", 8 + int.from_bytes(_read(file, 4, 4), "little"), size)


_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _asf(file: BinaryIO, size: int) -> str | None:
    """Compare the header's size of the file and the data object's end (ASF specification 1.2, 3.2 and 5.1)."""
    head = _read(file, 0, 1 << 16)
    place = head.find(_ASF_FILE)
    if not head.startswith(_ASF_HEADER) or place < 0 or len(head) < place + 92:
        return None
    file_size, flags = struct.unpack_from("<Q", head, place + 40)[0], struct.unpack_from("<I", head, place + 88)[0]
    if flags & 1:
        return None  # a broadcast: the sizes are invalid
    (header_size,) = struct.unpack_from("<Q", head, 16)
    data = _read(file, header_size, 24)
    data_end = header_size + struct.unpack_from("<Q", data, 16)[0] if len(data) == 24 else 0
    return _behind("header says that it", file_size, size, _SLACK_BYTES) or _behind("data", data_end, size, _SLACK_BYTES)


def _ogg(file: BinaryIO, size: int) -> str | None:
    """Look at the last page of an Ogg file (RFC 3533, 6)."""
    tail_start = max(0, size - (1 << 17))
    tail = _read(file, tail_start, size - tail_start)
    place = tail.rfind(b"OggS\x00")
    if place < 0:
        return None
    if len(tail) < place + 27 or len(tail) < place + 27 + tail[place + 26]:
        return f"the file ends at byte {size}, inside the header of its last page"
    lengths = tail[place + 27 : place + 27 + tail[place + 26]]
    return _behind("last page", tail_start + place + 27 + len(lengths) + sum(lengths), size)


def _gif(file: BinaryIO, size: int) -> str | None:
    """Walk the blocks of a GIF to its trailer (GIF89a specification)."""
    head = _read(file, 0, 13)
    position = 13 + _colour_table(head[10])
    while position < size:
        (kind, *_) = _read(file, position, 1)
        if kind == 0x3B:
            return None
        if kind == 0x2C:
            image = _read(file, position, 10)
            position += 11 + (_colour_table(image[9]) if len(image) == 10 else 0)
        elif kind == 0x21:
            position += 2
        else:
            return None  # no block: ffmpeg and browsers stop here as well
        while position < size and (length := _read(file, position, 1)[0]):
            position += 1 + length
        position += 1
    return f"the file ends at byte {size}, without a trailer"


def _colour_table(packed: int) -> int:
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _jpeg(file: BinaryIO, size: int) -> str | None:
    """Look for the end marker behind the first scan (ITU-T T.81, B.1.1); before it lies the one of a thumbnail."""
    if size > _MAX_IMAGE_BYTES:
        return None
    data = _read(file, 0, size)
    position = 2
    while position + 4 <= size and data[position] == 0xFF and data[position + 1] != 0xDA:
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None if data.find(b"\xff\xd9", position) >= 0 else f"the file ends at byte {size}, without its end marker"


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


_CHECKS: Mapping[str, Callable[[BinaryIO, int], str | None]] = {
    "mov": _isobmff,
    "matroska": _matroska,
    "flv": _flv,
    "mpegts": _mpegts,
    "avi": _riff,
    "asf": _asf,
    "ogg": _ogg,
    "gif": _gif,
    "webp": _webp,
    "jpeg_pipe": _jpeg,
    "image2": _jpeg,
}
