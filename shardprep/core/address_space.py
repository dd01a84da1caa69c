"""The address space that a process may have (`ulimit -v`): how much the core needs, and how to take less."""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from contextlib import suppress

from shardprep.core.quantity import size_words
from shardprep.errors import ShardprepError

_CORE_BYTES = 1_200_000 << 10
"""Measured: in 1.2 GB a worker cuts clips of small videos, in 1.0 GB its libraries are not loaded. Large frames take more."""

_STACK_BYTES = 2 << 20
"""What glibc takes where `ulimit -s` says nothing."""
_M_ARENA_MAX = -8
"""glibc, malloc.h."""


def address_space_limit() -> int | None:
    """Return the bytes of address space that a process may have; None where it is not limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def spare_address_space() -> None:
    """Let libraries reserve less address space where it is limited, in this process and those it starts. Call it before Arrow is loaded.

    Arrow's own allocator reserves 1 GiB and uses hardly any of it, glibc's 64 MiB for each thread that allocates, and a thread takes
    a stack of `ulimit -s`. OpenBLAS starts a thread per core; workers start as many as the recipe says.
    """
    if address_space_limit() is not None:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        threading.stack_size(_STACK_BYTES)
        # This process has read that variable already. A C library without arenas does not know the call.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def check_address_space() -> None:
    """Raise ShardprepError where the address space is too small for the libraries of the core."""
    limit = address_space_limit()
    if limit is not None and limit < _CORE_BYTES:
        raise ShardprepError(
            f"{limit_words(limit)}, and shardprep needs {size_words(_CORE_BYTES)} for small videos without models. "
            "Raise it, or lift it with `ulimit -v unlimited`"
        )


def limit_words(limit: int) -> str:
    """Say how small the address space is."""
    return f"a process may have {size_words(limit)} of address space (`ulimit -v`)"
