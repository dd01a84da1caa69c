"""The place of one worker process, filled again where the process dies."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pebble import ProcessPool

from shardprep.runtime.worker import start_worker

R = TypeVar("R")


class Slot:
    """One process at a time. Each has a pool of its own: workers that share a queue can take its locks into death."""

    def __init__(self, gpu: str | None, threads: int, tmp: str) -> None:
        self.gpu = gpu
        self._arguments = (gpu, threads, os.getpid(), tmp)
        self._pool: ProcessPool | None = None

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
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(1, initializer=start_worker, initargs=self._arguments, context=context)
        future = self._pool.schedule(function, args=arguments)
        return future

    def stop(self) -> None:
        """Begin to end the process, whatever it does."""
        if self._pool is not None:
            self._pool.stop()

    def close(self) -> None:
        """End the process and wait until it is gone."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None
