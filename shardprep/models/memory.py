"""Recognising that memory ran out, on the host or on an accelerator, and that an accelerator is lost to its process."""

from __future__ import annotations

import sys

_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed", "not enough memory")
"""What CUDA, HIP, cuBLAS, cuDNN and torch's CPU allocator say, in lower case; they raise plain RuntimeError as well."""

_LOST = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "the launch timed out",
    "uncorrectable ecc error",
)
"""What CUDA says, in lower case, when its context is gone: every later call of the process fails with the same words."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out; torch is asked only where it is loaded already."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def is_device_lost(error: BaseException) -> bool:
    """Whether the error says that this process can use its accelerator no more."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda error" in text and any(words in text for words in _LOST)
