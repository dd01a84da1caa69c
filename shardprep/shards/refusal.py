"""What a store's refusals mean, in words: every error of a filesystem becomes `StoreError` or `Unavailable` with the next step."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardprep.errors import StoreError, Unavailable
from shardprep.shards.signed import unsigned_text

_UNREACHABLE = frozenset(
    "ETIMEDOUT ECONNREFUSED ECONNRESET ECONNABORTED EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN ESTALE EPIPE EBUSY EIO EREMOTEIO".split()
)
_NEXT_STEP = {
    "ENOSPC": "no space left{free}. Free some, or choose another place",
    "EDQUOT": "the disk quota is used up. Free some space, or choose another place",
    "EFBIG": "the file is too big for this filesystem. Choose another place, or smaller shards",
    "EROFS": "the filesystem is read-only. Choose another place, or mount it for writing",
    "EACCES": "permission denied. Check its owner and mode, or the credentials of the store",
    "EPERM": "not permitted. Check its owner and mode, or the credentials of the store",
    "ENOENT": "not found. Check the path",
    "ENOTDIR": "a part of the path is a file, not a folder. Check the path",
    "EEXIST": "a part of the path is a file, not a folder. Check the path",
    "EISDIR": "it is a folder, expected a file. Check the path",
    "ENAMETOOLONG": "the name is too long for this filesystem. Choose a shorter path",
    "ELOOP": "its symbolic links form a loop. Mend the link",
    "ENOSYS": "this kind of store cannot do that. Choose another place",
}
# Errors that stores raise; a library that is not loaded has raised nothing.
_LIBRARY_ERRORS = (
    ("builtins", "OSError"),
    ("builtins", "NotImplementedError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
)
_CONNECTION_ERRORS = (
    ("builtins", "ConnectionError"),
    ("builtins", "TimeoutError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("aiohttp", "ClientError"),
)


@contextmanager
def refusals(doing: str, folder: str | None = None) -> Iterator[None]:
    """Turn what a filesystem raises into StoreError, or Unavailable where trying later may help.

    `doing` says what was done with what ("writing out/x"); `folder` is a local folder whose free space is told.
    """
    try:
        yield
    except _loaded(_LIBRARY_ERRORS) as error:
        raise _refusal(error, doing, folder) from error


def _refusal(error: Exception, doing: str, folder: str | None) -> StoreError | Unavailable:
    code = _code(error)
    doing = unsigned_text(doing)
    if code in _UNREACHABLE or (isinstance(error, _loaded(_CONNECTION_ERRORS)) and not _is_final(error)):
        return Unavailable(f"{doing}: the store does not answer ({_words(error)}). Check the network and the store")
    if code in _NEXT_STEP:
        return StoreError(f"{doing}: {_NEXT_STEP[code].format(free=_free(folder))} ({_words(error)})")
    return StoreError(f"{doing}: the store refuses ({_words(error)}). Check the path and the store's options")


def _is_final(error: Exception) -> bool:
    """Whether a web server refuses this one file, and not for the moment: 403 and the like."""
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)


def _code(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "ENOSYS"
    by_type = {FileNotFoundError: "ENOENT", PermissionError: "EACCES", IsADirectoryError: "EISDIR", NotADirectoryError: "ENOTDIR"}
    number = error.errno if isinstance(error, OSError) else None
    # Object stores raise FileNotFoundError and the like without a number.
    return errno.errorcode.get(number, "") if number else next((code for kind, code in by_type.items() if isinstance(error, kind)), "")


def _words(error: Exception) -> str:
    return unsigned_text(" ".join(str(error).split()))[:300] or type(error).__name__


def _free(folder: str | None) -> str:
    parent = next((path for path in (Path(folder), *Path(folder).parents) if path.exists()), None) if folder else None
    return f" ({shutil.disk_usage(parent).free} bytes are free)" if parent else ""


def _loaded(names: tuple[tuple[str, str], ...]) -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
