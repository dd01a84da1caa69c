"""How much memory a worker holds, and how much it may."""

from __future__ import annotations

import os

from shardprep.runtime.task import ShardTask
from shardprep.runtime.worker import wants_gpu

_SLACK = 512 << 20
"""What libraries take besides, and what a worker takes between two looks at it."""
_SLACK_OF_MODELS = 16 << 30
"""What a model may take on the host while it works; its weights were there before."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def allowed_bytes(task: object, memory_bytes: int) -> int:
    """Return how much a worker may take for a task, beside what it held when it began; `memory_bytes` is what the recipe says."""
    has_models = isinstance(task, ShardTask) and wants_gpu(task.stages)
    return memory_bytes + (_SLACK_OF_MODELS if has_models else _SLACK)


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
