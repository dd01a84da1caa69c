"""A folder on a local disk: listings, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from shardprep.core.version import FileVersion

TEMPORARY_PREFIX = ".tmp-"
BUFFER_BYTES = 1 << 16
ABSENT = "absent"
"""Version of a symbolic link that leads nowhere."""

_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store: its name relative to the store, its size in bytes, and what changes with its content (ETag, or mtime in ns).

    `inode` and `changed_ns` tell one run's files apart; between runs and machines they say nothing.
    """

    name: str
    size: int
    version: str
    inode: int | None = field(default=None, compare=False)
    changed_ns: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, name: str, seen: FileVersion) -> StoredFile:
        """Return the file that was seen."""
        return cls(name, seen.size, seen.tag, seen.inode, seen.changed_ns)

    @property
    def seen(self) -> FileVersion:
        """The version of it that was listed."""
        return FileVersion(self.size, self.version, self.inode, self.changed_ns)


class Temporary:
    """A file that is being written; `path` is None while it has no name on the disk."""

    def __init__(self, fd: int, path: str | None = None) -> None:
        self._raw = io.FileIO(fd, "r+")
        self.file = io.BufferedRandom(self._raw, BUFFER_BYTES)
        self.path = path

    def discard(self) -> None:
        """Close it and take away what it left; what was published stays."""
        # Unlinked before it is closed: closing gives up the lock that says somebody writes it.
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        # Past the buffer: its close would write the rest, on a disk that may be full.
        self._raw.close()


class LocalFolder:
    """A folder by its absolute path."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def names(self) -> dict[str, int]:
        """Return size by name of the regular files directly in the folder, sorted; temporaries are not there yet."""
        try:
            entries = os.scandir(self.root)
        except FileNotFoundError:
            return {}
        found: dict[str, int] = {}
        with entries:
            for entry in entries:
                found.update((file.name, file.size) for file in _stored(entry.name, entry) if file.version != ABSENT)
        return dict(sorted(found.items()))

    def folders(self) -> list[str]:
        """Return the names of the folders directly in the folder, sorted."""
        try:
            with os.scandir(self.root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []

    def size(self, name: str) -> int | None:
        """Return the size of a regular file, or None where there is none of this name."""
        try:
            info = os.stat(self.path(name))
        except FileNotFoundError:
            return None
        return info.st_size if stat.S_ISREG(info.st_mode) else None

    def version(self, name: str) -> FileVersion | None:
        """Return the version of a regular file, or None where there is none of this name."""
        try:
            info = os.stat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileVersion.of(info) if stat.S_ISREG(info.st_mode) else None

    def walk(self) -> Iterator[StoredFile]:
        """Yield the regular files of the tree, sorted by name. A folder reachable through a link is listed once, under its real name."""
        if not os.path.isdir(self.root):
            return
        found: list[StoredFile] = []
        seen: set[tuple[int, int]] = set()
        pending = [""]
        while pending:
            linked: list[str] = []
            for folder in pending:
                self._walk_folder(folder, seen, found, linked)
            pending = sorted(linked)
        yield from sorted(found, key=lambda file: file.name)

    def new(self) -> Temporary:
        """Return a new file without a name, or under a temporary name where the filesystem knows no other way."""
        os.makedirs(self.root, exist_ok=True)
        try:
            fd = self._open_unnamed()
            path = None
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            fd, path = self._open_named()
        _lock(fd)
        return Temporary(fd, path)

    def publish(self, temporary: Temporary, name: str, replace: bool) -> bool:
        """Give a written file its name; False where the name is taken and may not be replaced. IsADirectoryError where a folder has it."""
        temporary.file.flush()
        fd = temporary.file.fileno()
        os.fsync(fd)
        target = self.path(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if replace:
            if temporary.path is None:
                path = self._temporary_path()
                _link(fd, None, path)
                temporary.path = path
            os.replace(temporary.path, target)
            temporary.path = None
        elif not _publish_exclusively(fd, temporary, target):
            self.refuse_folder(name)
            return False
        _sync_folder(os.path.dirname(target))
        return True

    def refuse_folder(self, name: str) -> None:
        """Raise IsADirectoryError where a folder has the name of a file."""
        if os.path.isdir(self.path(name)):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def prune(self) -> None:
        """Remove empty folders, this one last; links to folders are left alone."""
        for folder, _, _ in os.walk(self.root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def clean_temporaries(self) -> list[str]:
        """Remove the temporaries whose writers are dead; return their names."""
        try:
            names = sorted(name for name in os.listdir(self.root) if name.startswith(TEMPORARY_PREFIX))
        except FileNotFoundError:
            return []
        return [name for name in names if _remove_abandoned(self.path(name))]

    def _open_unnamed(self) -> int:
        if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
            raise OSError(errno.EOPNOTSUPP, "no unnamed files here")
        return os.open(self.root, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)

    def _open_named(self) -> tuple[int, str]:
        while True:
            path = self._temporary_path()
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
            _lock(fd)
            if os.fstat(fd).st_nlink:
                return fd, path
            os.close(fd)  # a cleaner took it in the moment before the lock

    def _temporary_path(self) -> str:
        return self.path(TEMPORARY_PREFIX + secrets.token_hex(8))

    def _walk_folder(self, folder: str, seen: set[tuple[int, int]], found: list[StoredFile], linked: list[str]) -> None:
        """Add the files below `folder` to `found` and the links to folders to `linked`; a folder already `seen` adds nothing."""
        stack = [folder]
        while stack:
            at = stack.pop()
            info = os.stat(self.path(at))
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            with os.scandir(self.path(at)) as entries:
                for entry in entries:
                    name = f"{at}/{entry.name}" if at else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(name)
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        linked.append(name)
                    else:
                        found.extend(_stored(name, entry))


def _stored(name: str, entry: os.DirEntry[str]) -> Iterator[StoredFile]:
    """Yield the entry where it is a regular file."""
    if entry.name.startswith(TEMPORARY_PREFIX):
        return
    try:
        info = entry.stat()
    except OSError as error:
        # A link that leads nowhere or in a circle stays in the list, so that it gets a fate.
        if entry.is_symlink():
            yield StoredFile(name, 0, ABSENT)
        elif not isinstance(error, FileNotFoundError):  # another worker may have removed a superseded file since the listing
            raise
        return
    if stat.S_ISREG(info.st_mode):
        yield StoredFile.of(name, FileVersion.of(info))


def _publish_exclusively(fd: int, temporary: Temporary, target: str) -> bool:
    try:
        _link(fd, temporary.path, target)
    except FileExistsError:
        return False
    except OSError as error:
        if temporary.path is None or error.errno not in _NO_HARD_LINKS:
            raise
        if not _rename_under_lock(temporary.path, target):
            return False
        temporary.path = None
    return True


def _link(fd: int, path: str | None, target: str) -> None:
    """Hard-link a file to `target`, which must not exist; a file without a name is reached through its descriptor."""
    if path is None:
        # linkat(AT_SYMLINK_FOLLOW), which Python calls only where a folder descriptor is given.
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)
    else:
        os.link(path, target)


def _rename_under_lock(path: str, target: str) -> bool:
    """Rename where nothing has the name yet: for filesystems without hard links, safe between processes that lock the folder."""
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(folder)
        if os.path.lexists(target):
            return False
        os.rename(path, target)
        return True
    finally:
        os.close(folder)


def _remove_abandoned(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        return False  # no locks here: nobody can say whether it is being written
    finally:
        os.close(fd)
    return True


def _lock(fd: int) -> None:
    """Say that a file is being written; some network filesystems know no locks, and there `clean_temporaries` removes nothing."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
