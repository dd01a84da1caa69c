"""Quantities in words: bytes and times with their unit, counts with their noun."""

from __future__ import annotations

UNKNOWN = "?"


def size_words(num_bytes: float) -> str:
    """Return `1.5 KiB`: a size with the unit in which it is below 1024."""
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def time_words(seconds: float | None) -> str:
    """Return `2 h 01 min`, and `?` for an unknown time; a time above 0 is at least a second."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(max(1, round(seconds)) if seconds else 0, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 shard`, `2 shards`; of `entry` the plural is `entries`, of other irregular nouns it is given."""
    if number == 1:
        return f"1 {noun}"
    if plural is None:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number} {plural}"


def was(number: int) -> str:
    """Return the verb that goes with a count: `was` or `were`."""
    return "was" if number == 1 else "were"


def are(number: int) -> str:
    """Return the verb that goes with a count: `is` or `are`."""
    return "is" if number == 1 else "are"
