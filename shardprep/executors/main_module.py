"""What workers are told of the program's main module: nothing, unless their tasks hold things that it defines.

A spawned process imports the main module anew, under another name: a script without `if __name__ == "__main__":` would
begin again in every worker. Only stages that are defined in the script itself need that.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.popen_spawn_posix import Popen
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

RAN_AGAIN = 78
"""Exit code of a worker in which the script began to run its recipe again."""
RAN_AGAIN_WORDS = (
    "the recipe's stages are defined in the script that runs it, so that every worker imports the script, and it runs the recipe again. "
    'Put what runs under `if __name__ == "__main__":`, or move the stages to a module of their own'
)

_lock = threading.Lock()


class WorkerContext(SpawnContext):
    """Starts processes, with the main module imported in them or without; knows how the last one ended."""

    def __init__(self, *, with_main: bool) -> None:
        self._kind: type[SpawnProcess] = SpawnProcess if with_main else _WithoutMain
        self._last: BaseProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # type: ignore[override]  # a class there, called here just the same
        self._last = self._kind(*args, **kwargs)
        return self._last

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process; None where it runs."""
        return None if self._last is None else self._last.exitcode


def is_importable_again() -> bool:
    """Whether a worker could import the main module: not where it came from a pipe, `-c` or a notebook."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or (file is not None and Path(file).is_file())


def end_second_run() -> None:
    """End this process without a word where it is a worker that has only begun to import the script: the first run says why."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(RAN_AGAIN)


class _WithoutMain(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with _main_hidden():
            return Popen(process_obj)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Let the main module look as if it came from nowhere, which is how multiprocessing knows not to import it."""
    main: Any = sys.modules["__main__"]
    with _lock:
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        main.__spec__, main.__file__ = None, None
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is None:
                del main.__file__
            else:
                main.__file__ = file
