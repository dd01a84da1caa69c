"""Which GPUs there are, found without loading any library."""

from __future__ import annotations

import os
import re


def visible_gpus() -> tuple[str, ...]:
    """Return the names that CUDA_VISIBLE_DEVICES takes: those it holds already, or the numbers of the machine's NVIDIA devices."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        names = [name.strip() for name in told.split(",")]
        # CUDA itself ends at the first name that is none.
        return tuple(names[: next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))])
    numbers = [int(found[1]) for name in os.listdir("/dev") if (found := re.fullmatch(r"nvidia(\d+)", name))]
    return tuple(str(number) for number in sorted(numbers))
