"""Numbers of bytes in words."""

from __future__ import annotations


def size_words(num_bytes: float) -> str:
    """Return `1.5 KiB`: a size with the unit in which it is below 1024."""
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
