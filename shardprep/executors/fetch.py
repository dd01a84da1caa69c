"""Fetching ahead: while workers make shards, the remote files of the next ones are copied to this machine."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shardprep.errors import ShardprepError
from shardprep.runtime.inputs import RemoteFile
from shardprep.shards.store import Store
from shardprep.sources.places import split_url

DEFAULT_BYTES = 8 << 30
_FETCH_SECONDS = 300.0
_SLOWEST_DOWNLOAD = 256 << 10
"""Bytes a second."""


@dataclass
class Fetched:
    """The files of one task, on their way or here."""

    folder: Path
    files: Sequence[RemoteFile]
    copies: dict[str, str] = field(default_factory=dict)
    """Local paths by URL; a file that could not be fetched is not among them."""
    done: threading.Event = field(default_factory=threading.Event)
    dropped: threading.Event = field(default_factory=threading.Event)

    begun: float = field(default_factory=time.monotonic)

    @property
    def is_late(self) -> bool:
        """Whether it takes so long that the worker had better read the files where they lie, under a limit of its own."""
        return time.monotonic() - self.begun > _FETCH_SECONDS + self.num_bytes / _SLOWEST_DOWNLOAD

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files)


class Fetcher:
    """Holds at most `max_bytes` on disk, and no more than half of what is free there."""

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = min(max_bytes, shutil.disk_usage(folder).free // 2)
        self._held: list[Fetched] = []
        self._count = 0

    def begin(self, files: Sequence[RemoteFile]) -> Fetched | None:
        """Begin to fetch the files of a task; None where there is no room for them now."""
        if sum(held.num_bytes for held in self._held) + sum(file.size for file in files) > self._max_bytes:
            return None
        self._count += 1
        fetched = Fetched(self._folder / f"fetched-{self._count}", files)
        self._held.append(fetched)
        # A daemon: a slow download must not keep a stopped run from ending.
        threading.Thread(target=_fetch, args=(fetched,), daemon=True, name=f"fetch-{self._count}").start()
        return fetched

    def fitting(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return those of a task's files that find room together, once nothing else is held."""
        chosen: list[RemoteFile] = []
        for file in files:
            if sum(one.size for one in chosen) + file.size <= self._max_bytes:
                chosen.append(file)
        return chosen

    def drop(self, fetched: Fetched) -> None:
        """Remove the copies: the task is done, or given up."""
        fetched.dropped.set()
        self._held.remove(fetched)
        shutil.rmtree(fetched.folder, ignore_errors=True)

    def close(self) -> None:
        """Fetch nothing more. A download in progress is not waited for; its thread ends with it, or with the process."""
        for held in list(self._held):
            self.drop(held)


def _fetch(fetched: Fetched) -> None:
    try:
        for number, file in enumerate(fetched.files):
            if not fetched.dropped.is_set():
                _fetch_file(file, fetched.folder / str(number), fetched)
    finally:
        if fetched.dropped.is_set():
            shutil.rmtree(fetched.folder, ignore_errors=True)
        fetched.done.set()


def _fetch_file(file: RemoteFile, to: Path, fetched: Fetched) -> None:
    folder, name = split_url(file.url)
    try:
        path = Store(folder, file.options).fetch(name, to, file.version)
        if path.stat().st_size >= file.size:
            fetched.copies[file.url] = str(path)
    except (ShardprepError, OSError):
        # The worker reads the file where it lies, and says what is wrong with it.
        return
