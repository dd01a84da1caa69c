"""A folder on object storage or any other filesystem that fsspec knows: listings, range requests and uploads."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from shardprep.core.version import FileVersion
from shardprep.errors import StoreError, Unavailable
from shardprep.shards.local import StoredFile, Temporary
from shardprep.shards.refusal import refusals, s3_code

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 4 << 20
"""Bytes asked for at once where a reader wants less."""

_VERSION_FIELDS = (
    "ETag",
    "etag",
    "md5Hash",
    "contentHash",
    "mtime",
    "LastModified",
    "Last-Modified",
    "modified",
    "updated",
    "last_modified",
    "created",
)
_GONE = (404, 410)
"""How a web server says that it has no such file."""
# S3 answers 409 while another conditional upload of the same name is in flight: neither has won yet.
_CONFLICT_PAUSES_SECONDS = (0.1, 0.4, 1.6, 6.4)
_SHORT_BODY_PAUSES_SECONDS = (0.1, 0.5, 2.0)
_ONE_AT_A_TIME = threading.Lock()


class RemoteFolder:
    """A folder of an fsspec filesystem."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root = fs, root.rstrip("/")

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def names(self) -> dict[str, int]:
        """Return size by name of the files directly in the folder, sorted; empty where there is no such folder."""
        return {name: int(entry["size"] or 0) for name, entry in sorted(self._files(self._listing())) if "/" not in name}

    def folders(self) -> list[str]:
        """Return the names of the folders directly in the folder, sorted."""
        names = [str(entry["name"]).rstrip("/") for entry in self._listing() if entry.get("type") == "directory"]
        return sorted(name.removeprefix(f"{self._root}/") for name in names if name.startswith(f"{self._root}/"))

    def walk(self) -> Iterator[StoredFile]:
        """Yield the files below the folder, sorted by name."""
        try:
            with self._as_it_is():
                entries = self._fs.find(self._root, detail=True, **_strictness(self._fs)).values()
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket" or self._fs.exists(self._root):
                raise
            return
        for name, entry in sorted(self._files(entries), key=lambda item: item[0]):
            yield StoredFile.of(name, _version_of(entry))

    def read(self, name: str) -> bytes:
        # By a range: for a whole object s3fs first asks how large it is.
        try:
            data = bytes(self._fs.cat_file(self.path(name), start=0, end=BLOCK_BYTES))
        except OSError as error:
            if s3_code(error) not in ("InvalidRange", "416"):
                raise
            return b""
        return data if len(data) != BLOCK_BYTES else bytes(self._fs.cat_file(self.path(name)))

    def size(self, name: str) -> int | None:
        """Return the size of a file, or None where there is none of this name."""
        try:
            with self._as_it_is():
                info = self._fs.info(self.path(name))
        except FileNotFoundError:
            return None
        return int(info["size"] or 0) if info["type"] == "file" else None

    def version(self, name: str) -> FileVersion | None:
        """Return the version of a file, or None where there is none of this name: one request."""
        return version_now(self._fs, self.path(name))

    def blob(self, name: str, offset: int, size: int, version: FileVersion | None = None) -> RangeBlob:
        return RangeBlob(self._fs, self.path(name), offset, size, version)

    def download(self, name: str, to: str) -> None:
        self._fs.get_file(self.path(name), to)

    def new(self) -> Temporary:
        """Return a local temporary file that `publish` uploads."""
        if os.path.isdir("/proc/self/fd"):
            with tempfile.TemporaryFile() as file:
                return Temporary(os.dup(file.fileno()))
        # Without /proc an upload needs a name to open.
        return Temporary(*tempfile.mkstemp())

    def publish(self, temporary: Temporary, name: str, replace: bool) -> bool:
        """Upload a written file; False where the name is taken and may not be replaced."""
        temporary.file.flush()
        source = temporary.path or f"/proc/self/fd/{temporary.file.fileno()}"
        return self._put(self._fs.put_file, source, name, replace)

    def put_bytes(self, name: str, data: bytes, replace: bool) -> bool:
        return self._put(self._fs.pipe_file, data, name, replace)

    def remove(self, name: str) -> None:
        try:
            self._fs.rm_file(self.path(name))
        except FileNotFoundError:
            return

    @contextlib.contextmanager
    def _as_it_is(self) -> Iterator[None]:
        """Ask the store itself, and leave nothing remembered: fsspec answers later reads from a listing, however old."""
        self._fs.invalidate_cache(self._root)
        try:
            yield
        finally:
            self._fs.invalidate_cache(self._root)

    def _put(self, put: Callable[..., object], source: str | bytes, name: str, replace: bool) -> bool:
        arguments = (source, self.path(name)) if isinstance(source, str) else (self.path(name), source)
        if replace:
            put(*arguments)
            return True
        if "mode" not in inspect.signature(put).parameters:
            raise StoreError(f"{self.path(name)}: {self._fs.protocol} cannot create exclusively; write to another kind of store")
        # Object stores decide who is first; fsspec's own create looks and then writes, which is safe only one at a time.
        with contextlib.nullcontext() if isinstance(self._fs, AsyncFileSystem) else _ONE_AT_A_TIME:
            return _put_new(lambda: put(*arguments, mode="create"))

    def _listing(self) -> Sequence[Any]:
        """Return the entries directly in the folder; none where there is no such folder."""
        try:
            with self._as_it_is():
                entries: Sequence[Any] = self._fs.ls(self._root, detail=True)
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise
            return ()
        return entries

    def _files(self, entries: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        prefix = f"{self._root}/"
        for entry in entries:
            if entry.get("type") == "file" and entry["name"].startswith(prefix) and len(entry["name"]) > len(prefix):
                yield entry["name"][len(prefix) :], entry


@dataclass(frozen=True)
class RangeBlob:
    """A byte range of a remote file, read by range requests.

    With a `version` the store is asked for the file's version once its end was read, or it is closed before: versions do not come
    back, so that one which is as it was listed was so all the while. SourceChanged where it is another by then.
    """

    fs: Any = field(repr=False)
    path: str
    offset: int
    size: int
    version: FileVersion | None = None

    def check(self) -> None:
        """Raise SourceChanged where the file is not of the version that is wanted."""
        if self.version is not None:
            with refusals(f"reading {self.path}"):
                now = version_now(self.fs, self.path)
            self.version.check(now, self.path)

    def read_range(self, start: int, count: int) -> bytes:
        """Return bytes of the file; what a server leaves out or breaks off is asked for again, a few times."""
        data = b""
        broken: Unavailable | None = None
        for pause in (*_SHORT_BODY_PAUSES_SECONDS, None):
            try:
                with refusals(f"reading {self.path}"):
                    data += bytes(self.fs.cat_file(self.path, start=start + len(data), end=start + count))
                    if len(data) >= count or self._size_now() < start + count:
                        break
                broken = Unavailable(f"reading {self.path}: the store breaks off after {len(data)} of {count} bytes, again and again")
            except Unavailable as error:
                broken = error
            if pause is None:
                raise broken
            time.sleep(pause)
        if len(data) != count:
            self.check()
            raise StoreError(
                f"reading {self.path}: {len(data)} bytes came for {count} asked from byte {start}; the file was replaced, "
                "or the server knows no ranges. Run again, or copy it to a local disk first"
            )
        return data

    def _size_now(self) -> int:
        now = version_now(self.fs, self.path)
        return now.size if now else 0

    def open(self) -> BinaryIO:
        return io.BufferedReader(_RangeReader(self), min(BLOCK_BYTES, max(1, self.size)))


class _RangeReader(io.RawIOBase):
    """One request per read: the buffer above it decides how large they are."""

    def __init__(self, blob: RangeBlob) -> None:
        self._blob, self._position, self._is_unchecked = blob, 0, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blob.size}[whence] + offset
        if position < 0:
            raise ValueError(f"seek to {position}: before the start")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._fetch(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        # io's own goes 8 KiB at a time: a request each.
        return self._fetch(self._blob.size)

    def _fetch(self, most: int) -> bytes:
        count = max(0, min(most, self._blob.size - self._position))
        if not count:
            return b""
        try:
            data = self._blob.read_range(self._blob.offset + self._position, count)
        except StoreError:
            # It may be refused because it is gone, or shorter by now.
            self._blob.check()
            raise
        self._position += count
        self._is_unchecked = True
        if self._position == self._blob.size:
            self._check()
        return data

    def _check(self) -> None:
        if self._is_unchecked:
            self._is_unchecked = False
            self._blob.check()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._check()
        finally:
            super().close()


def version_now(fs: Any, path: str) -> FileVersion | None:
    """Return the version of a file as the store knows it now, or None where it has none of this name.

    None too where a web server does not say the size: then there are no ranges to ask for.
    """
    fs.invalidate_cache()
    try:
        info = fs.info(path)
    except FileNotFoundError as error:
        if s3_code(error) == "NoSuchBucket":
            raise
        cause = error.__cause__
        if "http" in fs.protocol and isinstance(cause, Exception) and getattr(cause, "status", None) not in _GONE:
            # fsspec says so of a web server whatever went wrong
            raise cause from None
        return None
    return _version_of(info) if info["type"] == "file" and info.get("size") is not None else None


def _strictness(fs: Any) -> dict[str, str]:
    """Return what keeps fsspec's own `find` from passing over folders that it cannot list; flat listings of object stores need nothing."""
    generic = type(fs).find is AbstractFileSystem.find or getattr(type(fs), "_find", None) is AsyncFileSystem._find
    return {"on_error": "raise"} if generic else {}


def _put_new(put: Callable[[], object]) -> bool:
    """Upload what must not exist yet; False where it does."""
    for pause in (*_CONFLICT_PAUSES_SECONDS, None):
        try:
            put()
        except FileExistsError:
            return False
        except OSError as error:
            code = s3_code(error)
            if code in {"PreconditionFailed", "412"}:  # servers other than Amazon's do not say which condition, which s3fs looks for
                return False
            if code not in {"ConditionalRequestConflict", "409"} or pause is None:
                raise
            time.sleep(pause)
        else:
            return True
    raise AssertionError("the last round raises or returns")


def _version_of(entry: Mapping[str, Any]) -> FileVersion:
    """Return the version of a file from what fsspec says of it."""
    size = int(entry.get("size") or 0)
    value: Any = next((entry[name] for name in _VERSION_FIELDS if entry.get(name)), size)
    # fsspec's own memory:// lists times as seconds, and tells them as times where it is asked for one file
    is_moment = isinstance(value, datetime) and value.tzinfo is not None
    return FileVersion(size, str(value.timestamp() if is_moment else value).strip('"'))
