"""The journal of a worker: which calls are in progress, so that the one which kills or hangs it is known."""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shardprep.core.progress import heard_by

_BEAT_SECONDS = 1.0
COMMITTING = "commit"
"""What stands where a stage's name would while a shard is committed."""
_SLOWEST_UPLOAD = 256 << 10
"""Bytes a second below which a store counts as hanging."""


@dataclass(frozen=True)
class Call:
    """A call in progress. Times are of the monotonic clock, which all processes of a machine share."""

    stage: str
    keys: tuple[str, ...]
    """The samples in work; none while a stage is opened."""
    since: float
    """When it began, or last said that it gets on."""
    limit_seconds: float | None
    """None: whoever watches the worker decides."""


@dataclass(frozen=True)
class Noted:
    """What a journal says."""

    pid: int | None = None
    """The worker's process; None where nothing readable is noted."""
    calls: tuple[Call, ...] = ()
    beat: float = 0.0
    """When the worker last showed that it gets on, on the monotonic clock."""


class Journal:
    """Notes calls in a small file, from several threads, and that work outside of calls gets on. Without a file it notes nothing."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) if path else None
        self._calls: dict[int, Call] = {}
        self._next = 0
        self._noted_at = 0.0
        self._lock = threading.Lock()
        self._write()

    @contextmanager
    def call(self, stage: str, keys: Sequence[str], limit_seconds: float | None) -> Iterator[None]:
        """Note a call while the body runs; where that says that it gets on (`core.progress`), its limit counts anew."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._calls[number] = Call(stage, tuple(keys), time.monotonic(), limit_seconds)
            self._write()
        try:
            with heard_by(lambda: self._renew(number)):
                yield
        finally:
            with self._lock:
                del self._calls[number]
                self._write()

    def commit(self, num_bytes: int) -> AbstractContextManager[None]:
        """Note the commit of a tar while the body runs: some stores are only written then. Its limit is what the bytes may take."""
        return self.call(COMMITTING, [], num_bytes / _SLOWEST_UPLOAD)

    def beat(self) -> None:
        """Note that work gets on; called as often as you like."""
        if time.monotonic() - self._noted_at > _BEAT_SECONDS:
            with self._lock:
                self._write()

    def _renew(self, number: int) -> None:
        call, now = self._calls[number], time.monotonic()
        if now - call.since > min(_BEAT_SECONDS, (call.limit_seconds or _BEAT_SECONDS) / 4):
            with self._lock:
                self._calls[number] = replace(call, since=now)
                self._write()

    def close(self) -> None:
        """Note nothing more; a thread that still runs must not write into a descriptor that is another file's by then."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _write(self) -> None:
        if self._fd is None:
            return
        self._noted_at = time.monotonic()
        text = json.dumps({"pid": os.getpid(), "beat": self._noted_at, "calls": [asdict(call) for call in self._calls.values()]})
        # One line in one write; what a longer one before it leaves behind its end does not count.
        os.pwrite(self._fd, f"{zlib.crc32(text.encode()):08x} {text}\n".encode(), 0)


def read_journal(path: str) -> Noted:
    """Return what is noted; nothing where there is no journal, or where a write was cut short or is under way."""
    try:
        line = Path(path).read_bytes().partition(b"\n")[0]
        checksum, _, text = line.partition(b" ")
        if int(checksum, 16) != zlib.crc32(text):
            return Noted()
        noted = json.loads(text)
        calls = (Call(c["stage"], tuple(c["keys"]), c["since"], c["limit_seconds"]) for c in noted["calls"])
        return Noted(noted["pid"], tuple(calls), noted["beat"])
    except (OSError, ValueError, KeyError):
        return Noted()
