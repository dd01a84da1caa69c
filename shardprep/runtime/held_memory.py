"""The memory that a process holds alone, and the base of a worker: what it held before it began to work."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def held_bytes(pid: int) -> int:
    """Return the memory that a process holds alone: resident, and of no file; 0 where that cannot be known.

    Not its address space, of which CUDA and Arrow reserve far more than they use.
    """
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * _PAGE


def held_at_rest() -> int:
    """Return what this process holds once unused memory was given back."""
    gc.collect()
    # Of glibc; other libraries keep what they keep.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    return held_bytes(os.getpid())


def note_base(journal: str, num_bytes: int) -> None:
    """Note, beside a worker's journal, what it holds before it works."""
    _base_file(journal).write_text(str(num_bytes), encoding="ascii")


def forget_base(journal: str) -> None:
    """Remove what was noted: nothing limits the worker until the next note."""
    _base_file(journal).unlink(missing_ok=True)


def read_base(journal: str) -> int | None:
    """Return what the worker noted; None where it has not, or while it loads stages."""
    try:
        return int(_base_file(journal).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _base_file(journal: str) -> Path:
    return Path(f"{journal}.base")
