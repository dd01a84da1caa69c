"""A filesystem `faulty://` over a local folder that fails on demand: unreadable files, a full disk, read-only, out of reach.

What fails is written in a JSON file named by the storage option `faults` or by the environment variable `SHARDPREP_FAULTS`,
and read before every operation: so that a test changes it while worker processes run.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

ENVIRONMENT_VARIABLE = "SHARDPREP_FAULTS"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong."""

    unreadable: tuple[str, ...] = ()
    """Patterns (`*/a.mp4`) of paths that cannot be opened."""
    read_only: bool = False
    unreachable: bool = False
    capacity_bytes: int | None = None
    """The disk is full when the files below `folder` hold so many bytes."""
    folder: str = "/"

    def save(self, path: Path) -> None:
        """Make these the faults of every store that looks into `path`, at once."""
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(path)


def load_faults(path: str | None) -> Faults:
    """Return the faults in a file; none where no file is named."""
    if not path:
        return Faults()
    values = json.loads(Path(path).read_text())
    return Faults(**{**values, "unreadable": tuple(values["unreadable"])})


def register_faulty() -> None:
    """Make `faulty://` known to fsspec in this process; the package's entry point does so in every process where it is installed."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


class FaultyFileSystem(AbstractFileSystem):
    """Behaves like object storage over a local folder: files appear whole, `mode="create"` is exclusive, folders come by themselves."""

    protocol = "faulty"
    root_marker = "/"

    def __init__(self, faults: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._control = faults

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self._reach(path)
        path = self._strip_protocol(path)
        found = [self.info(path)] if os.path.isfile(path) else [self.info(entry.path) for entry in os.scandir(path)]
        return found if detail else [entry["name"] for entry in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._reach(path)
        path = self._strip_protocol(path)
        stat = os.stat(path)
        kind = "directory" if os.path.isdir(path) else "file"
        return {"name": path, "size": stat.st_size, "type": kind, "mtime": stat.st_mtime_ns}

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._check_writable(path, 0)
        os.makedirs(self._strip_protocol(path), exist_ok=exist_ok)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        self.makedirs(path, exist_ok=create_parents)

    def rm_file(self, path: str) -> None:
        self._check_writable(path, 0)
        os.unlink(self._strip_protocol(path))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._put(io.BytesIO(value), self._strip_protocol(path), len(value), mode)

    def put_file(self, lpath: str, rpath: str, callback: Any = None, mode: str = "overwrite", **_: Any) -> None:
        with open(lpath, "rb") as file:
            self._put(file, self._strip_protocol(rpath), os.path.getsize(lpath), mode)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        faults = self._reach(path)
        if mode != "rb":
            raise io.UnsupportedOperation("faulty:// is written with pipe_file and put_file")
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in faults.unreadable):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return open(path, "rb")

    def _put(self, source: Any, path: str, size: int, mode: str) -> None:
        self._check_writable(path, size)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{os.path.dirname(path)}/.faulty-{secrets.token_hex(8)}"
        try:
            with open(temporary, "wb") as file:
                shutil.copyfileobj(source, file)
            if mode == "create":
                os.link(temporary, path)
            else:
                os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _faults(self) -> Faults:
        return load_faults(self._control or os.environ.get(ENVIRONMENT_VARIABLE))

    def _reach(self, path: str) -> Faults:
        faults = self._faults()
        if faults.unreachable:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED), path)
        return faults

    def _check_writable(self, path: str, size: int) -> None:
        faults = self._reach(path)
        if faults.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        if faults.capacity_bytes is not None and _bytes_below(faults.folder) + size > faults.capacity_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _bytes_below(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
