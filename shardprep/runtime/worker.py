"""The inside of a worker process: models opened once, one shard after the other."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from shardprep.core.fingerprint import canonical_json, settings_of
from shardprep.core.stage import Process, Stage, Worker, stage_name
from shardprep.runtime.journal import Journal
from shardprep.runtime.shard import make_shard
from shardprep.runtime.task import ShardResult, ShardTask

_OPEN_LIMIT_SECONDS = 3600.0


@dataclass
class OpenStages:
    """The stages that this process has opened last; those of an earlier pass are let go, and their models with them."""

    identity: str = ""
    processes: list[Process] = field(default_factory=list)

    def get(self, stages: Sequence[Stage], worker: Worker, journal: Journal) -> list[Process]:
        """Return the opened stages, opening them where they are not those of the call before."""
        identity = canonical_json([[f"{type(s).__module__}.{type(s).__qualname__}", settings_of(s)] for s in stages])
        if identity != self.identity:
            self.identity, self.processes = "", []
            for stage in stages:
                with journal.call(f"open {stage_name(stage)}", [], _OPEN_LIMIT_SECONDS):
                    self.processes.append(stage.open(worker))
            self.identity = identity
        return self.processes


# One per process, so that a worker which makes many shards loads its models once.
_open_stages = OpenStages()


def start_worker(device: str, threads: int, parent: int) -> None:
    """Prepare a worker process: thread counts, no signals of the terminal, an end when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["SHARDPREP_DEVICE"] = device
    threading.Thread(target=_die_with, args=(parent,), daemon=True, name="parent").start()


def work_on(task: ShardTask) -> ShardResult:
    """Make one shard in this process."""
    worker = Worker(device=os.environ.get("SHARDPREP_DEVICE", "cpu"), threads=task.settings.threads)
    journal = Journal(task.journal)
    try:
        processes = _open_stages.get(task.stages, worker, journal)
    finally:
        journal.close()
    _limit_threads(task.settings.threads)
    return make_shard(task, {id(stage): process for stage, process in zip(task.stages, processes, strict=True)})


def _limit_threads(threads: int) -> None:
    """Set the thread counts of the libraries that are loaded; results can depend on them."""
    import cv2

    cv2.setNumThreads(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def _die_with(parent: int) -> None:
    """End this process when its parent is gone: nobody waits for its shard any more."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
