"""Whether a picture moves, told from its first bytes: an animated WebP has the suffix of a picture and is a video."""

from __future__ import annotations

from shardprep.core.blob import Blob

_ANIMATION_FLAG = 0x02


def is_animated_webp(blob: Blob) -> bool:
    """Whether a blob says that it is an animated WebP: a VP8X chunk comes first and has the flag (RFC 9649, 2.7)."""
    with blob.open() as file:
        head = file.read(21)
    return len(head) == 21 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & _ANIMATION_FLAG)
