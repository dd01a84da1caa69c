"""Tasks one after the other in this process, for stages that no other process can import: a notebook's, or those of `python -`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from shardprep.executors.job import Job, Task, with_fields
from shardprep.runtime.worker import WorkerProblem, attempt

T = TypeVar("T", bound=Task)
R = TypeVar("R")


def run_here(
    jobs: Sequence[Job[T]], function: Callable[[T], R], *, attempts: int, back_off_seconds: float
) -> Iterator[tuple[Job[T], R | WorkerProblem]]:
    """Yield every job with what came of it; where the surroundings fail it is tried again, `attempts` times in all.

    Nothing here can end a call that hangs, or outlive one that kills its process.
    """
    for job in jobs:
        answer = attempt(function, with_fields(job.task, journal=job.journal), job.journal)
        while isinstance(answer, WorkerProblem) and answer.kind == "unavailable" and job.refusals + 1 < attempts:
            time.sleep(back_off_seconds * 2**job.refusals)
            job.refusals += 1
            answer = attempt(function, with_fields(job.task, journal=job.journal), job.journal)
        yield job, answer
