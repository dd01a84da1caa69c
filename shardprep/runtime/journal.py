"""The journal of a worker: which calls are in progress, so that the one which kills or hangs it is known."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """A call in progress. Times are of the monotonic clock, which all processes of a machine share."""

    stage: str
    keys: tuple[str, ...]
    started: float
    limit_seconds: float


class Journal:
    """Notes calls in a small file, from several threads. Without a file it notes nothing."""

    def __init__(self, path: str | None) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) if path else None
        self._calls: dict[int, Call] = {}
        self._next = 0
        self._lock = threading.Lock()

    @contextmanager
    def call(self, stage: str, keys: Sequence[str], limit_seconds: float) -> Iterator[None]:
        """Note a call while the body runs."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._calls[number] = Call(stage, tuple(keys), time.monotonic(), limit_seconds)
            self._write()
        try:
            yield
        finally:
            with self._lock:
                del self._calls[number]
                self._write()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self) -> None:
        if self._fd is None:
            return
        data = json.dumps({"pid": os.getpid(), "calls": [asdict(call) for call in self._calls.values()]}).encode()
        # A reader that meets a half-written file tries again.
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))


def read_journal(path: str) -> tuple[int | None, list[Call]]:
    """Return the worker's process id and its calls in progress; (None, []) where nothing readable is noted."""
    try:
        values = json.loads(Path(path).read_text())
        return values["pid"], [Call(c["stage"], tuple(c["keys"]), c["started"], c["limit_seconds"]) for c in values["calls"]]
    except (OSError, ValueError, KeyError):
        return None, []
