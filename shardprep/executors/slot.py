"""The place of one worker process, filled again where the process dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from pebble import ProcessPool

from shardprep.core.address_space import address_space_limit, limit_words
from shardprep.errors import RunFailed
from shardprep.executors.main_module import WorkerContext
from shardprep.runtime.worker import start_worker

_JOIN_SECONDS = 15.0

R = TypeVar("R")


def _of_limits() -> str:
    """Say what a process needs more of to start threads."""
    limit = address_space_limit()
    what = f", and {limit_words(limit)}. Raise it, or" if limit is not None else ". Raise the limit of processes (`ulimit -u`), or"
    return f"{what} take fewer `workers`"


class Slot:
    """One process at a time. Each has a pool of its own: workers that share a queue can take its locks into death."""

    def __init__(self, gpu: str | None, threads: int, tmp: str) -> None:
        self.gpu = gpu
        self._arguments = (gpu, threads, os.getpid(), tmp)
        self._pool: ProcessPool | None = None
        self._with_main = False
        self._context = WorkerContext(with_main=False)

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process, where it has ended."""
        return self._context.exit_code

    def use_main(self) -> None:
        """Let the process import the main module from now on, because its tasks hold what that defines."""
        if not self._with_main:
            self.close()
            self._with_main = True

    def start(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Run a function in the process, which is started where there is none. Cancelling the future kills the process."""
        future: Future[R]
        if self._pool is not None:
            try:
                future = self._pool.schedule(function, args=arguments)
                return future
            except RuntimeError:
                # The process died while it had nothing to do.
                self.close()
        self._context = WorkerContext(with_main=self._with_main)
        # It would unblock the signal again as it starts.
        resource_tracker.ensure_running()
        # Until the process has come to ignore it: a terminal sends Ctrl-C to all processes, and it is ours to answer.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._start_process(function, *arguments)
        except RuntimeError as error:
            # Python's word where a thread cannot be started: the pool has one to watch its process.
            raise RunFailed(f"a worker process cannot be started ({error}){_of_limits()}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start_process(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        self._pool = ProcessPool(1, initializer=start_worker, initargs=self._arguments, context=self._context)
        future: Future[R] = self._pool.schedule(function, args=arguments)
        return future

    def stop(self) -> None:
        """Begin to end the process, whatever it does."""
        if self._pool is not None:
            self._pool.stop()

    def close(self) -> None:
        """End the process and wait until it is gone."""
        if self._pool is not None:
            self._pool.stop()
            # What waits for a disk that hangs cannot even be killed; it ends with its disk, or with the machine.
            with suppress(TimeoutError, FutureTimeout):
                self._pool.join(_JOIN_SECONDS)
            self._pool = None
