"""A store: a folder on any fsspec filesystem, and the only code of the package that writes files."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from fsspec.core import url_to_fs

from shardprep.core.blob import Blob, BytesBlob, FileBlob
from shardprep.core.version import FileVersion
from shardprep.errors import StoreError, UnknownStore
from shardprep.redaction import remember_secrets
from shardprep.shards.kinds import URL, check_kind, missing_package
from shardprep.shards.local import TEMPORARY_PREFIX, LocalFolder, StoredFile, Temporary
from shardprep.shards.refusal import refusals, s3_code
from shardprep.shards.remote import RemoteFolder

__all__ = ["NewFile", "Store", "StoredFile"]

_OF_OBJECT_STORES = frozenset({"key", "secret", "token", "endpoint_url", "profile", "anon", "use_ssl", "config_kwargs"})


class NewFile:
    """A binary file that nobody sees until `commit` gives it a name; leaving the context without that leaves nothing behind."""

    def __init__(self, store: Store, temporary: Temporary, name: str | None) -> None:
        self._store, self._temporary, self._name = store, temporary, name

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._refusals():
            self._temporary.discard()

    @property
    def closed(self) -> bool:
        return self._temporary.file.closed

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:
        with self._refusals():
            return self._temporary.file.write(data)

    def flush(self) -> None:
        with self._refusals():
            self._temporary.file.flush()

    def tell(self) -> int:
        return self._temporary.file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._refusals():
            return self._temporary.file.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        with self._refusals():
            return self._temporary.file.truncate(size)

    def commit(self, name: str | None = None, *, replace: bool = False) -> bool:
        """Publish what was written; False where the name exists already (and `replace` is not asked for).

        `name` may be left out where `Store.create` was given one.
        """
        chosen = name or self._name
        if chosen is None:
            raise ValueError("commit needs a name: give it here or to Store.create")
        return self._store.publish(self._temporary, chosen, replace=replace)

    def _refusals(self) -> AbstractContextManager[None]:
        return refusals(f"writing {self._store.url}/{self._name or '(a new file)'}", self._store.local_root)


class Store:
    """A folder by URL or local path; nothing outside it can be named."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self._options = dict(storage_options or {})
        remember_secrets(self._options)
        self._folder: LocalFolder | RemoteFolder
        if URL.match(url):
            self.url, self._folder = _remote(url, self._options)
        else:
            self.url = os.path.abspath(os.path.expanduser(url.removeprefix("file://")))
            self._folder = LocalFolder(self.url)
        self.is_local = isinstance(self._folder, LocalFolder)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str, dict[str, Any]]]:
        return Store, (self.url, self._options)

    @property
    def local_root(self) -> str | None:
        """The folder's path where it is on a local disk."""
        return self._folder.root if isinstance(self._folder, LocalFolder) else None

    def at(self, name: str) -> Store:
        """Return the store of a subfolder."""
        return Store(f"{self.url.rstrip('/')}/{_checked(name, self.url)}", self._options)

    def names(self) -> dict[str, int]:
        """Return size in bytes by name of the files directly in the folder: one listing; empty where there is no folder."""
        with refusals(f"listing {self.url}"):
            return self._folder.names()

    def folders(self) -> list[str]:
        """Return the names of the folders directly in the folder, and of links to folders: one listing."""
        with refusals(f"listing {self.url}"):
            return self._folder.folders()

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, or None where there is no such file."""
        with refusals(f"looking for {self.url}/{name}"):
            return self._folder.size(_checked(name, self.url))

    def walk(self) -> Iterator[StoredFile]:
        """Yield all files below the folder, names relative with `/`, sorted.

        Symbolic links are followed; a folder reached on several ways counts once, loops end. A link that leads nowhere is
        listed with version `absent`; pipes, sockets and devices are not files.
        """
        with refusals(f"listing {self.url}"):
            yield from self._folder.walk()

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self._reading(name):
            if isinstance(self._folder, LocalFolder):
                return Path(self._folder.path(_checked(name, self.url))).read_bytes()
            return self._folder.read(_checked(name, self.url))

    def read_if_there(self, name: str) -> bytes | None:
        """Return a file's bytes, or None where there is no such file: one request."""
        try:
            return self.read(name)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError) and s3_code(error.__cause__) != "NoSuchBucket":
                return None
            raise

    def small(self, name: str) -> Blob:
        """Return a file that is read as a whole, such as a ledger: from a remote store at once, without asking for its size first."""
        return self.blob(name) if self.is_local else BytesBlob(self.read(name))

    def version(self, name: str) -> FileVersion | None:
        """Return the version of a file, or None where there is no such file."""
        with refusals(f"looking for {self.url}/{name}"):
            return self._folder.version(_checked(name, self.url))

    def blob(self, name: str, offset: int = 0, size: int | None = None, version: FileVersion | None = None) -> Blob:
        """Return a byte range of a file, up to its end where no size is given; nothing is read before it is opened.

        Reading it raises SourceChanged where the file is not of the `version` that is given.
        """
        checked = _checked(name, self.url)
        with self._reading(name):
            if size is None:
                if (whole := self._folder.size(checked)) is None:
                    self._refuse_folder(checked)
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                size = max(0, whole - offset)
            if isinstance(self._folder, LocalFolder):
                return FileBlob(self._folder.path(checked), offset, size, version)
            return self._folder.blob(checked, offset, size, version)

    def unless_gone(self, name: str) -> _UnlessGone:
        """Return a context that passes over the refusal of a file that is gone: another run may have removed it since it was listed."""
        return _UnlessGone(self, name)

    def path(self, name: str) -> Path | None:
        """Return a file's local path, or None on a remote store."""
        checked = _checked(name, self.url)
        return Path(self._folder.path(checked)) if isinstance(self._folder, LocalFolder) else None

    def fetch(self, name: str, folder: Path, version: FileVersion | None = None) -> Path:
        """Return a local path with the file's content: its own, or a copy in `folder` under its last name.

        A copy is of the `version` that is given; SourceChanged where there is another by now.
        """
        checked = _checked(name, self.url)
        if isinstance(self._folder, LocalFolder):
            return Path(self._folder.path(checked))
        target = folder / checked.rsplit("/", 1)[-1]
        temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        with refusals(f"fetching {self.url}/{name} into {folder}", str(folder)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._folder.download(checked, str(temporary))
                if version is not None:
                    version.check(self._folder.version(checked), f"{self.url}/{name}")
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        return target

    def create(self, name: str | None = None) -> NewFile:
        """Return a new file to write; its name may be decided when it is committed."""
        if name is not None:
            _checked(name, self.url)
        with self._writing(name):
            return NewFile(self, self._folder.new(), name)

    def publish(self, temporary: Temporary, name: str, *, replace: bool) -> bool:
        """Give a written file its name; False where the name is taken. `NewFile.commit` is the way to call it."""
        with self._writing(name):
            return self._folder.publish(temporary, _checked(name, self.url), replace)

    def create_bytes(self, name: str, data: bytes) -> bool:
        """Create a file that must not exist yet; False where it does."""
        return self._put(name, data, replace=False)

    def replace_bytes(self, name: str, data: bytes) -> None:
        """Write a file, old or new: readers see all of it or what was there before."""
        self._put(name, data, replace=True)

    def refuse_folders(self, names: Iterable[str]) -> None:
        """Raise StoreError where a folder lies in the place of one of these files; on object stores it takes no place."""
        for name in names:
            with self._writing(name):
                self._refuse_folder(_checked(name, self.url))

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        with refusals(f"removing {self.url}/{name}"):
            self._folder.remove(_checked(name, self.url))

    def prune(self) -> None:
        """Remove the folder and those below it where nothing lies in them; object stores have no folders."""
        if isinstance(self._folder, LocalFolder):
            self._folder.prune()

    def clean_temporaries(self) -> list[str]:
        """Remove what killed writers left in the folder, never what is being written; return the names."""
        if not isinstance(self._folder, LocalFolder):
            return []
        with refusals(f"cleaning {self.url}"):
            return self._folder.clean_temporaries()

    def _refuse_folder(self, name: str) -> None:
        if isinstance(self._folder, LocalFolder):
            self._folder.refuse_folder(name)

    def _put(self, name: str, data: bytes, *, replace: bool) -> bool:
        if isinstance(self._folder, RemoteFolder):
            with self._writing(name):
                return self._folder.put_bytes(_checked(name, self.url), data, replace)
        with self.create(name) as file:
            file.write(data)
            return file.commit(replace=replace)

    def _reading(self, name: str) -> AbstractContextManager[None]:
        return refusals(f"reading {self.url}/{name}")

    def _writing(self, name: str | None) -> AbstractContextManager[None]:
        return refusals(f"writing {self.url}/{name or ''}".rstrip("/"), self.local_root)


class _UnlessGone:
    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        # By now it may have come back: what counts is that it was not there.
        was_gone = isinstance(error, StoreError) and isinstance(error.__cause__, FileNotFoundError)
        return was_gone or (isinstance(error, StoreError) and self._store.size(self._name) is None)


def _remote(url: str, options: dict[str, Any]) -> tuple[str, RemoteFolder]:
    """Return the folder behind a URL, and the URL in the one form that names it in messages and in other processes."""
    fs, root = open_filesystem(url, options)
    return url.rstrip("/") if root.strip("/") else url, RemoteFolder(fs, root)


def open_filesystem(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """Return fsspec's filesystem of a URL, and the path in it; UnknownStore where none can be had."""
    check_kind(url)
    remember_secrets(storage_options)
    if url.startswith(("http://", "https://")):
        # A list on one store may name files on web servers besides.
        foreign = _OF_OBJECT_STORES | ({"client_kwargs"} if _OF_OBJECT_STORES & (storage_options or {}).keys() else set())
        storage_options = {name: value for name, value in (storage_options or {}).items() if name not in foreign}
    try:
        with refusals(f"opening {url}"):
            fs, root = url_to_fs(url, **(storage_options or {}))
    except ImportError as error:
        raise missing_package(url, error) from error
    except (ValueError, TypeError) as error:
        raise UnknownStore(f"{url}: {error}. Check the URL and storage_options") from error
    return fs, root


def _checked(name: str, where: str) -> str:
    parts = name.split("/")
    if not name or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise StoreError(f"{where}: the name {name!r} is absolute, empty or leads outside; names are relative, such as 000000.tar")
    return name
