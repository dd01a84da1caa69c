"""The local executor: worker processes on this machine, each making one shard at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool

from shardprep.core.outcome import Failed
from shardprep.errors import RunFailed, ShardError, ShardprepError, Stopped, StoreError, Unavailable
from shardprep.runtime.journal import Call, read_journal
from shardprep.runtime.worker import start_worker

_POLL_SECONDS = 0.2
_ATTEMPTS = 3
_BACK_OFF_SECONDS = 2.0
_GO_ON = "Run the recipe again to go on"


@dataclass(frozen=True)
class ShardFailure:
    """A shard that could not be made."""

    shard: str
    error: ShardprepError


class Task(Protocol):
    """What an executor knows of a task: a frozen dataclass with these fields, that pickles."""

    @property
    def step(self) -> str: ...
    @property
    def shard(self) -> str: ...
    @property
    def journal(self) -> str | None: ...
    @property
    def verdicts(self) -> Mapping[str, Failed]: ...
    @property
    def alone(self) -> frozenset[str]: ...


T = TypeVar("T", bound=Task)
R = TypeVar("R")


@dataclass
class _Job(Generic[T]):
    """A shard on its way, with what is known of its earlier attempts."""

    task: T
    journal: str
    attempts: int = 0
    """Attempts that taught nothing."""
    not_before: float = 0.0
    deaths: Counter[str] = field(default_factory=Counter)
    """How often each sample was alone in work when the worker died."""
    hung: Call | None = None
    """The call for which this executor killed the worker."""


@dataclass
class StopSignal:
    """How a run is asked to stop: `finish` lets the shards in work end, `abandon` gives them up."""

    finish: threading.Event = field(default_factory=threading.Event)
    abandon: threading.Event = field(default_factory=threading.Event)


class LocalExecutor:
    """Runs tasks on worker processes that may die, hang or run out of memory without ending the run."""

    def __init__(self, num_workers: int, threads: int = 1, stop: StopSignal | None = None) -> None:
        self._num_workers, self._threads = num_workers, threads
        self._stop = stop or StopSignal()
        self._pool: ProcessPool | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="shardprep-")

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.close() if kind is None else self._pool.stop()
            self._pool.join()
        self._scratch.cleanup()

    def run(self, tasks: Iterable[T], function: Callable[[T], R]) -> Iterator[R | ShardFailure]:
        """Run `function` on each task in a worker; yield each shard as it is committed or given up.

        Raises Stopped, and StoreError where the store refuses.
        """
        jobs = deque(_Job(task, str(Path(self._scratch.name) / f"{task.step}-{task.shard}.journal")) for task in tasks)
        running: dict[Future[R], _Job[T]] = {}
        while jobs or running:
            self._submit(jobs, running, function)
            if not running and self._stop.finish.is_set():
                raise Stopped(
                    f"stopped; the shards in work were finished, {len(jobs)} are left. Run the recipe again to go on", finished=True
                )
            if self._stop.abandon.is_set():
                self._give_up()
                left = len(jobs) + len(running)
                raise Stopped(f"stopped; {len(running)} shards in work were given up, {left} are left. {_GO_ON}", finished=False)
            done = _finished(running)
            for future in done:
                answer = self._answer(future, running.pop(future), jobs)
                if answer is not None:
                    yield answer
            for job in running.values():
                _kill_if_hung(job)

    def _submit(self, jobs: deque[_Job[T]], running: dict[Future[R], _Job[T]], function: Callable[[T], R]) -> None:
        # One more than there are workers, so that none waits for the next poll.
        for _ in range(len(jobs)):
            if len(running) > self._num_workers or self._stop.finish.is_set():
                return
            job = jobs.popleft()
            if job.not_before > time.monotonic():
                jobs.append(job)
                continue
            Path(job.journal).unlink(missing_ok=True)
            job.hung = None
            running[self._workers().schedule(function, args=(_with(job.task, journal=job.journal),))] = job

    def _workers(self) -> ProcessPool:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            arguments = ("cpu", self._threads, os.getpid())
            self._pool = ProcessPool(self._num_workers, initializer=start_worker, initargs=arguments, context=context)
        return self._pool

    def _give_up(self) -> None:
        if self._pool is not None:
            self._pool.stop()

    def _answer(self, future: Future[R], job: _Job[T], jobs: deque[_Job[T]]) -> R | ShardFailure | None:
        """Return what came of one attempt, or None where the job goes back to be tried again."""
        try:
            return future.result()
        except StoreError:
            raise
        except ShardError as error:
            return ShardFailure(job.task.shard, error)
        except Unavailable as error:
            job.not_before = time.monotonic() + _BACK_OFF_SECONDS * 2**job.attempts
            return _again(job, jobs, error)
        except ProcessExpired as error:
            if _learn(job, error.exitcode):
                jobs.appendleft(job)
                return None
            return _again(job, jobs, RunFailed(f"the worker died ({_exit_words(error.exitcode)}) outside any stage"))
        except ShardprepError as error:
            return ShardFailure(job.task.shard, error)


def _finished(running: Mapping[Future[R], _Job[T]]) -> set[Future[R]]:
    if running:
        return wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done
    time.sleep(_POLL_SECONDS)
    return set()


def default_workers(threads: int) -> int:
    """Return how many workers this machine feeds: one per core and thread."""
    return max(1, len(os.sched_getaffinity(0)) // threads)


def _with(task: T, **changes: Any) -> T:
    return replace(task, **changes)  # type: ignore[type-var]  # every task is a dataclass, which a protocol cannot say


def _again(job: _Job[T], jobs: deque[_Job[T]], error: ShardprepError) -> ShardFailure | None:
    job.attempts += 1
    if job.attempts >= _ATTEMPTS:
        return ShardFailure(job.task.shard, RunFailed(f"shard {job.task.shard} of {job.task.step} failed {job.attempts} times: {error}"))
    jobs.appendleft(job)
    return None


def _learn(job: _Job[T], exit_code: int) -> bool:
    """Take from the journal which samples were in work when the worker died; return whether that says anything."""
    _, calls = read_journal(job.journal)
    if job.hung is not None:
        calls = [call for call in calls if call.keys == job.hung.keys] or [job.hung]
    keys = sorted({key for call in calls for key in call.keys} - job.task.verdicts.keys())
    if not keys:
        return False
    if len(keys) == 1 and keys[0] in job.task.alone:
        # It was alone both times: the suspicion of the first death is the verdict of the second.
        call = next(call for call in calls if keys[0] in call.keys)
        verdict = _verdict(call, job.hung is not None, exit_code)
        job.task = _with(job.task, verdicts={**job.task.verdicts, keys[0]: verdict})
        return True
    job.deaths.update(keys)
    if max(job.deaths.values()) > _ATTEMPTS:
        return False
    job.task = _with(job.task, alone=job.task.alone | set(keys))
    return True


def _verdict(call: Call, was_hung: bool, exit_code: int) -> Failed:
    if was_hung:
        return Failed("timed-out", f"{call.stage}: gave no answer within {call.limit_seconds:g} s")
    return Failed(
        "worker-died", f"{call.stage}: the worker process died ({_exit_words(exit_code)}), twice, while it had only this sample in work"
    )


def _exit_words(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    words = f"signal {signal.Signals(-exit_code).name}"
    return f"{words}, perhaps for want of memory" if -exit_code == signal.SIGKILL else words


def _kill_if_hung(job: _Job[T]) -> None:
    pid, calls = read_journal(job.journal)
    now = time.monotonic()
    overdue = [call for call in calls if now - call.started > call.limit_seconds]
    if pid and overdue and job.hung is None:
        job.hung = overdue[0]
        os.kill(pid, signal.SIGKILL)
