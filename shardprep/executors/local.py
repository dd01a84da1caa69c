"""The local executor: worker processes on this machine, each making one shard at a time."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

from pebble import ProcessExpired

from shardprep.core.address_space import spare_address_space
from shardprep.core.quantity import are, counted, was
from shardprep.errors import RunFailed, ShardError, ShardprepError, Stopped, StoreError
from shardprep.executors.fetch import DEFAULT_BYTES, Fetcher
from shardprep.executors.gpus import visible_gpus
from shardprep.executors.inline import run_here
from shardprep.executors.job import Job, ShardFailure, Task, with_fields
from shardprep.executors.main_module import RAN_AGAIN, RAN_AGAIN_WORDS, is_importable_again
from shardprep.executors.memory import allowed_bytes
from shardprep.executors.run_folder import RunFolder
from shardprep.executors.slot import Slot
from shardprep.executors.stop import StopSignal
from shardprep.runtime.inputs import remote_files, with_copies
from shardprep.runtime.task import ShardTask
from shardprep.runtime.worker import WorkerProblem, attempt, needs_main, wants_gpu

_POLL_SECONDS = 0.2
_REFUSALS = 5
_BACK_OFF_SECONDS = 2.0
_OPEN_LIMIT_SECONDS = 3600.0
_QUIET_LIMIT_SECONDS = 300.0
_GIVEN_UP_IN_A_ROW = 3
"""Shards for which the surroundings fail to the end before the run stops: the others would fare no better."""

T = TypeVar("T", bound=Task)
R = TypeVar("R")


class LocalExecutor:
    """Runs tasks on worker processes that may die, hang or run out of memory without ending the run."""

    def __init__(
        self,
        num_workers: int,
        threads: int = 1,
        stop: StopSignal | None = None,
        *,
        tmp: str | None = None,
        memory_bytes: int | None = None,
        fetch_bytes: int = DEFAULT_BYTES,
        back_off_seconds: float = _BACK_OFF_SECONDS,
        open_limit_seconds: float = _OPEN_LIMIT_SECONDS,
        quiet_limit_seconds: float = _QUIET_LIMIT_SECONDS,
    ) -> None:
        """`tmp` is the folder for temporary files, None for the system's; `fetch_bytes` of it may be inputs fetched ahead.

        `memory_bytes` is what a worker may take beside its libraries and weights, whatever it makes; None: as much as it likes.
        """
        spare_address_space()
        self._stop = stop or StopSignal()
        self._folder = RunFolder(tmp)
        self._fetcher = Fetcher(self._folder.path, fetch_bytes)
        gpus = dict(enumerate(visible_gpus()))
        self._slots = [Slot(gpus.get(number), threads, str(self._folder.path)) for number in range(num_workers)]
        self._back_off_seconds, self._open_limit_seconds = back_off_seconds, open_limit_seconds
        self._quiet_limit_seconds = quiet_limit_seconds
        self._memory_bytes = memory_bytes
        self._in_use: Sequence[Slot] = self._slots
        self._refused_in_a_row = self._given_up_in_a_row = 0

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stop.watched():
            self._fetcher.close()
            for slot in self._slots:
                slot.stop()
            for slot in self._slots:
                slot.close()
            self._folder.close()

    def run(self, tasks: Iterable[T], function: Callable[[T], R]) -> Iterator[R | ShardFailure]:
        """Run `function` on each task in a worker; yield each shard as it is committed or given up.

        Raises Stopped, StoreError where the store refuses, and RunFailed where no shard can be made.
        """
        jobs = deque(self._job(task) for task in tasks)
        with self._stop.watched():
            yield from self._run(jobs, function)
            # Asked for while the last one was finished: nobody else may look for long.
            self._check_stop(0, 0)

    def _run(self, jobs: deque[Job[T]], function: Callable[[T], R]) -> Iterator[R | ShardFailure]:
        if jobs:
            # What differs between the tasks of a step are names.
            if needs_main(jobs[0].task, jobs[0].task.step):
                if not is_importable_again():
                    yield from self._run_here(jobs, function)
                    return
                for slot in self._slots:
                    slot.use_main()
            self._in_use = _fitting(self._slots, jobs[0].task)
        running: dict[Future[R | WorkerProblem], tuple[Job[T], Slot]] = {}
        while jobs or running:
            self._check_stop(len(jobs), len(running))
            self._fetch_ahead(jobs)
            self._submit(jobs, running, function)
            for future in _finished(running):
                job, slot = running.pop(future)
                answer = self._answer(future, job, slot)
                if answer is None:
                    jobs.appendleft(job)
                    continue
                self._let_go(job)
                yield answer
            for future, (job, _) in running.items():
                if not future.cancelled() and job.is_lost(self._open_limit_seconds, self._quiet_limit_seconds):
                    future.cancel()

    def _run_here(self, jobs: deque[Job[T]], function: Callable[[T], R]) -> Iterator[R | ShardFailure]:
        """Run the jobs in this process: their stages are of a main module that no worker can import."""
        for number, (job, answer) in enumerate(run_here(jobs, function, attempts=_REFUSALS, back_off_seconds=self._back_off_seconds)):
            yield _failure(job, answer) if isinstance(answer, WorkerProblem) else answer
            if number + 1 < len(jobs) and self._stop.finish.is_set():
                self._check_stop(len(jobs) - number - 1, 0)

    def _job(self, task: T) -> Job[T]:
        job = Job(task, str(self._folder.path / f"{task.step}-{task.shard}.journal"))
        job.allowed_bytes = None if self._memory_bytes is None else allowed_bytes(task, self._memory_bytes)
        if isinstance(task, ShardTask):
            job.remote = self._fetcher.fitting(remote_files(task))
        return job

    def _check_stop(self, num_waiting: int, num_running: int) -> None:
        if self._stop.abandon.is_set() and num_running:
            raise Stopped(f"Stopped: {_unfinished(num_running, num_waiting)}. Run the recipe again to make them.", finished=False)
        if self._stop.finish.is_set() and not num_running:
            left = f"{counted(num_waiting, 'shard')} of this step {are(num_waiting)} left"
            raise Stopped(f"Stopped: the shards in work were finished, {left}. Run the recipe again to make them.", finished=True)

    def _fetch_ahead(self, jobs: deque[Job[T]]) -> None:
        """Begin to fetch what the next tasks read, one for each worker."""
        for job in islice(jobs, len(self._in_use)):
            if job.remote and job.fetched is None:
                job.fetched = self._fetcher.begin(job.remote)

    def _submit(
        self, jobs: deque[Job[T]], running: dict[Future[R | WorkerProblem], tuple[Job[T], Slot]], function: Callable[[T], R]
    ) -> None:
        busy = {id(slot) for _, slot in running.values()}
        for slot in self._in_use:
            if id(slot) in busy or self._stop.finish.is_set():
                continue
            job = next((job for job in jobs if self._may_start(job)), None)
            if job is None:
                return
            jobs.remove(job)
            job.forget_notes()
            job.hung = job.gone_since = None
            job.is_quiet = job.is_too_large = False
            job.begun = time.monotonic()
            running[slot.start(attempt, function, self._prepared(job), job.journal)] = (job, slot)

    def _may_start(self, job: Job[T]) -> bool:
        """Whether the job may start now. While every worker meets outages, only retries start."""
        is_trouble = self._refused_in_a_row >= len(self._in_use)
        return job.not_before <= time.monotonic() and job.is_fetched and (job.refusals > 0 or not is_trouble)

    def _prepared(self, job: Job[T]) -> T:
        changes: dict[str, Any] = {"journal": job.journal}
        if isinstance(job.task, ShardTask):
            changes["is_last_attempt"] = job.refusals == _REFUSALS - 1
            if job.fetched is not None:
                changes |= with_copies(job.task, job.fetched.copies)
            if job.suspected:
                # One call at a time, so that a death names its sample.
                changes["settings"] = replace(job.task.settings, decode_ahead=0)
        return with_fields(job.task, **changes)

    def _answer(self, future: Future[R | WorkerProblem], job: Job[T], slot: Slot) -> R | ShardFailure | None:
        """Return what came of one attempt, or None where it is to be made again."""
        died: BaseException | None = None
        try:
            answer = future.result()
        except (ProcessExpired, CancelledError, BrokenProcessPool) as error:
            died = error
        if died is not None:
            # A process that dies may hold a lock of its pool.
            slot.close()
            if slot.exit_code == RAN_AGAIN:
                raise RunFailed(RAN_AGAIN_WORDS)
            failure = job.died(died.exitcode if isinstance(died, ProcessExpired) else None)
            if failure is not None and job.is_quiet:
                self._gave_up(failure.error)
            return failure
        if not isinstance(answer, WorkerProblem):
            self._refused_in_a_row = self._given_up_in_a_row = 0
            return answer
        if answer.call is not None:
            slot.close()
            return job.lost_device(answer.call, answer.message)
        if answer.kind == "unavailable":
            return self._refused(job, slot, answer)
        return _failure(job, answer)

    def _refused(self, job: Job[T], slot: Slot, problem: WorkerProblem) -> ShardFailure | None:
        """Let a job wait before it is tried again, in another process: the device may be lost to this one."""
        slot.close()
        job.not_before = time.monotonic() + self._back_off_seconds * 2**job.refusals
        job.refusals += 1
        self._refused_in_a_row += 1
        if job.refusals < _REFUSALS:
            return None
        self._refused_in_a_row = 0
        error = RunFailed(f"shard {job.task.shard} of {job.task.step} was tried {job.refusals} times: {problem.message}")
        self._gave_up(error)
        return ShardFailure(job.task.shard, error)

    def _gave_up(self, error: ShardprepError) -> None:
        """Count a shard that was given up for the surroundings' sake; raise its error where it is one too many."""
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= _GIVEN_UP_IN_A_ROW:
            raise error

    def _let_go(self, job: Job[T]) -> None:
        job.forget_notes()
        if job.fetched is not None:
            self._fetcher.drop(job.fetched)


def _unfinished(num_running: int, num_waiting: int) -> str:
    abandoned = f"{counted(num_running, 'unfinished shard')} {was(num_running)} abandoned"
    return f"{abandoned}, {counted(num_waiting, 'shard')} not begun" if num_waiting else abandoned


def default_workers(threads: int) -> int:
    """Return how many workers this machine feeds: one per core and thread, and no fewer than it has GPUs."""
    return max(1, len(os.sched_getaffinity(0)) // threads, len(visible_gpus()))


def _fitting(slots: Sequence[Slot], task: Task) -> Sequence[Slot]:
    """Return the workers that run such tasks: for models those with a GPU, where there are any; the others would be far behind."""
    with_gpu = [slot for slot in slots if slot.gpu is not None]
    return with_gpu if with_gpu and isinstance(task, ShardTask) and wants_gpu(task.stages) else slots


def _finished(running: dict[Future[R], tuple[Job[T], Slot]]) -> set[Future[R]]:
    if running:
        return wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done
    time.sleep(_POLL_SECONDS)
    return set()


def _failure(job: Job[T], problem: WorkerProblem) -> ShardFailure:
    """Return the failure of a shard; raise what stops the run."""
    cause = WorkerTraceback(problem.traceback)
    if problem.kind == "interrupted":
        words = f"Stopped: {job.task.step} was interrupted (KeyboardInterrupt) while it made shard {job.task.shard}"
        raise Stopped(f"{words}. Run the recipe again to make what is not there yet", finished=False) from cause
    if problem.kind == "store":
        raise StoreError(problem.message) from cause
    if problem.kind == "stage":
        raise RunFailed(f"{job.task.step}: {problem.message}") from cause
    if problem.kind == "shard":
        return ShardFailure(job.task.shard, ShardError(problem.message))
    error = RunFailed(f"shard {job.task.shard} of {job.task.step}: {problem.message}")
    error.__cause__ = cause
    return ShardFailure(job.task.shard, error)


class WorkerTraceback(Exception):
    """Where in a worker an error was raised, as text."""
