"""How exactly convolutions are computed on an accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def convolutions(*, tf32: bool = False) -> Iterator[None]:
    """Compute convolutions in real fp32 unless tf32 is asked for, and to the same bytes every time.

    torch lets cuDNN round them to tf32, and choose among algorithms by timing them.
    """
    import torch

    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
        yield
