"""What a store's refusals mean, in words: every error of a filesystem becomes `StoreError` or `Unavailable` with the next step."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardprep.errors import Forbidden, StoreError, Unavailable
from shardprep.redaction import redact

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
    "EISDIR": "it is a folder, expected a file. Check the path, or move that folder away",
    "ENAMETOOLONG": "the name is too long for this filesystem. Choose a shorter path",
    "ELOOP": "its symbolic links form a loop. Mend the link",
    "ENOSYS": "this kind of store cannot do that. Choose another place",
    "NoSuchBucket": "there is no such bucket. Check its name and the endpoint in storage_options, or make it",
}
_FORBIDDEN = frozenset({"EACCES", "EPERM"})
# What S3 and those who speak like it answer where the credentials themselves are at fault.
_CREDENTIAL_CODES = frozenset(
    "AccountProblem AllAccessDisabled ExpiredToken ExpiredTokenException InvalidAccessKeyId InvalidSecurity InvalidToken NotSignedUp "
    "RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch TokenRefreshRequired UnrecognizedClientException".split()
)
_WITHOUT_CREDENTIALS = (
    ("botocore.exceptions", "NoCredentialsError"),
    ("botocore.exceptions", "PartialCredentialsError"),
    ("botocore.exceptions", "CredentialRetrievalError"),
    ("botocore.exceptions", "TokenRetrievalError"),
    ("botocore.exceptions", "UnauthorizedSSOTokenError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
# Errors that stores raise; a library that is not loaded has raised nothing.
_LIBRARY_ERRORS = (
    ("builtins", "OSError"),
    ("builtins", "NotImplementedError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
_CONNECTION_ERRORS = (
    ("builtins", "ConnectionError"),
    ("builtins", "TimeoutError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("botocore.exceptions", "FlexibleChecksumError"),
    ("botocore.exceptions", "IncompleteReadError"),
    ("botocore.exceptions", "ResponseStreamingError"),
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
    doing = redact(doing)
    if (is_of_credentials := _is_of_credentials(error)) or code in _FORBIDDEN or _status(error) in (401, 403):
        return Forbidden(f"{doing}: {_NEXT_STEP['EACCES']} ({_words(error)})", is_of_credentials=is_of_credentials)
    if code in _UNREACHABLE or (isinstance(error, _loaded(_CONNECTION_ERRORS)) and not _is_final(error)):
        return Unavailable(f"{doing}: the store does not answer ({_words(error)}). Check the network and the store")
    if code in _NEXT_STEP:
        return StoreError(f"{doing}: {_NEXT_STEP[code].format(free=_free(folder))} ({_words(error)})")
    return StoreError(f"{doing}: the store refuses ({_words(error)}). Check the path and the store's options")


def _is_final(error: Exception) -> bool:
    """Whether a web server refuses this one file, and not for the moment: 403 and the like."""
    status = _status(error)
    # aiohttp's InvalidURL is a ValueError.
    return isinstance(error, ValueError) or (status is not None and 400 <= status < 500 and status not in (408, 425, 429))


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error of aiohttp, gcsfs or the like tells."""
    found = next((value for name in ("status", "code") if isinstance(value := getattr(error, name, None), int)), None)
    # gcsfs says it in words only.
    return 403 if found is None and isinstance(error, OSError) and str(error).startswith("Forbidden") else found


def _is_of_credentials(error: Exception) -> bool:
    """Whether the store says that the credentials are at fault, and not the file."""
    return isinstance(error, _loaded(_WITHOUT_CREDENTIALS)) or s3_code(error) in _CREDENTIAL_CODES


def s3_code(error: Exception) -> str:
    """Return S3's own word for what is wrong, empty where the error is none of S3's."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _code(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "ENOSYS"
    if s3_code(error) == "NoSuchBucket":
        return "NoSuchBucket"
    by_type = {FileNotFoundError: "ENOENT", PermissionError: "EACCES", IsADirectoryError: "EISDIR", NotADirectoryError: "ENOTDIR"}
    number = error.errno if isinstance(error, OSError) else None
    # Object stores raise FileNotFoundError and the like without a number.
    return errno.errorcode.get(number, "") if number else next((code for kind, code in by_type.items() if isinstance(error, kind)), "")


def _words(error: Exception) -> str:
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__


def _free(folder: str | None) -> str:
    parent = next((path for path in (Path(folder), *Path(folder).parents) if path.exists()), None) if folder else None
    return f" ({shutil.disk_usage(parent).free} bytes are free)" if parent else ""


def _loaded(names: tuple[tuple[str, str], ...]) -> tuple[type[Exception], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(kind for kind in found if kind is not None)
