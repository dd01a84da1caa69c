"""Recognising that memory ran out, on the host or on an accelerator."""

from __future__ import annotations

import sys

_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed", "not enough memory")
"""What CUDA, HIP, cuBLAS, cuDNN and torch's CPU allocator say, in lower case; they raise plain RuntimeError as well."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out; torch is asked only where it is loaded already."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
