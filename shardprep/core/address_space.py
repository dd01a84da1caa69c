"""The address space that a process may have (`ulimit -v`): how much the core needs, and how to take less."""

from __future__ import annotations

import os
import resource

from shardprep.core.quantity import size_words
from shardprep.errors import ShardprepError

_CORE_BYTES = 1_200_000 << 10
"""Measured: in 1.2 GB a worker cuts clips of small videos, in 1.0 GB its libraries are not loaded. Large frames take more."""


def address_space_limit() -> int | None:
    """Return the bytes of address space that a process may have; None where it is not limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def spare_address_space() -> None:
    """Let Arrow reserve no address space where it is limited, in this process and those it starts. Call it before Arrow is loaded.

    Arrow's own allocator reserves 1 GiB and uses hardly any of it.
    """
    if address_space_limit() is not None:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


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
