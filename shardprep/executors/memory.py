"""How much memory a worker may take."""

from __future__ import annotations

from shardprep.runtime.task import ShardTask
from shardprep.runtime.worker import wants_gpu


def allowed_bytes(task: object, memory_bytes: int) -> int:
    """Return how much a worker may take for a task beside its libraries and weights: `memory_bytes`, which is what the recipe says.

    Where models work, also the most that one of them declares: an encoder holds its activations whatever `memory` says.
    """
    if not isinstance(task, ShardTask) or not wants_gpu(task.stages):
        return memory_bytes
    return memory_bytes + max(stage.resources.memory_bytes for stage in task.stages if wants_gpu([stage]))
