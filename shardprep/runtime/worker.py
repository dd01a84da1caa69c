"""The inside of a worker process: models opened once, one shard after the other, and errors that survive the way home."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.reduction import ForkingPickler
from typing import Literal, TextIO, TypeVar, cast

from shardprep.core.fingerprint import canonical_json, settings_of
from shardprep.core.stage import Process, Stage, Worker, stage_name
from shardprep.core.streams import Unbroken
from shardprep.errors import RecipeError, ShardError, ShardprepError, StoreError, Unavailable
from shardprep.runtime.call import RAISED, DeviceLost, said_by
from shardprep.runtime.held_memory import forget_base, held_at_rest, note_base
from shardprep.runtime.journal import Call, Journal
from shardprep.runtime.same_weights import WeightsChanged, check_weights
from shardprep.runtime.shard import make_shard
from shardprep.runtime.task import ShardResult, ShardTask

OPENING = "opening"
"""What stands before a stage's name in the journal while the stage is opened."""

_PR_SET_PDEATHSIG = 1

T = TypeVar("T")
R = TypeVar("R")

ProblemKind = Literal["unavailable", "store", "shard", "stage", "device", "interrupted", "other"]


@dataclass(frozen=True)
class WorkerProblem:
    """Why a worker could not make a shard. As text: not every exception can be sent to another process."""

    kind: ProblemKind
    """`stage`: a stage could not be opened, or its weights were replaced, so that no shard can be made; `interrupted`: Ctrl-C came, or a
    stage says so."""
    message: str
    traceback: str
    call: Call | None = None
    """In which the device was lost."""


class StageNotOpened(ShardprepError):
    """A stage could not load what it needs."""


@dataclass
class OpenStages:
    """The stages that this process has opened last; those of an earlier pass are let go, and their models with them."""

    identity: str = ""
    processes: list[Process] = field(default_factory=list)
    base_bytes: int | None = None
    """What the process held when they were opened, or when it began: not what it keeps of the shards that it made since."""

    def get(self, stages: Sequence[Stage], worker: Worker, journal: Journal, weights: Mapping[str, str]) -> list[Process]:
        """Return the opened stages: those of the call before where stages and weights are the same, else newly opened ones.

        Raises WeightsChanged where the weights are not those with these digests, before or after loading; Unavailable; and StageNotOpened
        for everything else that a stage raises.
        """
        named = [[f"{type(s).__module__}.{type(s).__qualname__}", settings_of(s)] for s in stages]
        identity = canonical_json([asdict(worker), named, dict(weights)])
        if identity != self.identity:
            self.close()
            if journal.path is not None:
                # What stages take while they are loaded is the base of what follows, and no work.
                forget_base(journal.path)
            # Where no digest could be remembered, gigabytes are read here.
            with journal.call(f"{OPENING} weights", [], None):
                check_weights(weights)
            processes = [_opened(stage, worker, journal) for stage in stages]
            check_weights(weights)
            self.processes = processes
            self.identity = identity
            self.base_bytes = held_at_rest()
        return self.processes

    def base(self) -> int:
        """Return what the process holds without its work."""
        if self.base_bytes is None:
            self.base_bytes = held_at_rest()
        return self.base_bytes

    def close(self) -> None:
        """Let the stages go."""
        self.identity, self.processes = "", []


# One per process, so that a worker which makes many shards loads its models once.
_open_stages = OpenStages()


def start_worker(gpu: str | None, threads: int, parent: int, tmp: str) -> None:
    """Prepare a worker process: one GPU or none, thread counts, an end when the parent dies, `tmp` for its files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Blocked while the process was started; a program that a stage starts inherits this.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Before any library is loaded that reads it.
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
    # What a killed worker leaves goes with the run's own folder.
    os.environ["TMPDIR"] = tempfile.tempdir = tmp
    _die_with(parent)
    # What a stage prints is no part of its work.
    sys.stdout, sys.stderr = cast(TextIO, Unbroken(sys.stdout)), cast(TextIO, Unbroken(sys.stderr))


def attempt(function: Callable[[T], R], task: T, journal: str) -> R | WorkerProblem:
    """Return what `function` makes of a task, or what kept it from that; `journal` exists from here on."""
    Journal(journal).close()
    note_base(journal, _open_stages.base())
    try:
        return function(task)
    except RAISED as error:
        if isinstance(error, DeviceLost):
            return WorkerProblem("device", error.words, traceback.format_exc(), Call(error.stage, error.keys, 0.0, None))
        return WorkerProblem(_kind(error), _words(error), traceback.format_exc())


def needs_main(task: object, step: str) -> bool:
    """Whether a worker needs the program's main module to read a task; RecipeError where the task cannot be sent at all."""
    try:
        # A pickle names the module of every class that it holds.
        return b"__main__" in bytes(ForkingPickler.dumps(task))
    except Exception as error:
        raise RecipeError(
            f"{step}: its stages cannot be sent to a worker ({error}). Define them at the top of a module or script, "
            "with settings that pickle"
        ) from error


def work_on(task: ShardTask) -> ShardResult:
    """Make one shard in this process."""
    worker = Worker(device=_device(task.stages), threads=task.settings.threads, on_corrupt=task.settings.on_corrupt)
    journal = Journal(task.journal)
    try:
        processes = _open_stages.get(task.stages, worker, journal, task.weights)
    finally:
        journal.close()
    _limit_threads(task.settings.threads)
    if task.journal is not None:
        note_base(task.journal, _open_stages.base())
    return make_shard(task, {id(stage): process for stage, process in zip(task.stages, processes, strict=True)})


def wants_gpu(stages: Sequence[Stage]) -> bool:
    """Whether a stage runs on a GPU where there is one."""
    return any(stage.resources.gpus or "torch" in (module for module, _ in stage.needs) for stage in stages)


def _device(stages: Sequence[Stage]) -> str:
    """Return the device of this process for stages: its GPU, if it has one that torch can use."""
    if not os.environ.get("CUDA_VISIBLE_DEVICES") or not wants_gpu(stages):
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def _opened(stage: Stage, worker: Worker, journal: Journal) -> Process:
    name = stage_name(stage)
    try:
        with journal.call(f"{OPENING} {name}", [], None):
            process = stage.open(worker)
    except (Unavailable, KeyboardInterrupt):
        raise
    except RAISED as error:
        raise StageNotOpened(f"{name} could not be opened: {_words(error)}") from error
    if not callable(process):
        raise StageNotOpened(f"{name} could not be opened: `open` returned {type(process).__name__}, expected a function of a batch")
    return process


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, ShardprepError) else f"{type(error).__name__}: {said_by(error)}"


def _kind(error: BaseException) -> ProblemKind:
    kinds: list[tuple[type[BaseException], ProblemKind]] = [
        (KeyboardInterrupt, "interrupted"),
        (Unavailable, "unavailable"),
        (StoreError, "store"),
        (ShardError, "shard"),
        (StageNotOpened, "stage"),
        (WeightsChanged, "stage"),
    ]
    return next((kind for known, kind in kinds if isinstance(error, known)), "other")


def _limit_threads(threads: int) -> None:
    """Set the thread counts of the libraries that are loaded; results can depend on them."""
    import cv2

    cv2.setNumThreads(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def _die_with(parent: int) -> None:
    """Let this process end when its parent is gone: nobody waits for its shard any more."""
    if sys.platform == "linux":
        # The kernel sees to it even where a stage keeps Python from running threads.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
