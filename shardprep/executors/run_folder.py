"""The folder for temporary files of a run, which goes with it: journals, fetched inputs, what workers keep on disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shardprep.errors import RecipeError

_PREFIX = "shardprep-"
_LOCK = "in-use"


class RunFolder:
    """A new folder. A killed run cannot remove its own: the next one in the same place does."""

    def __init__(self, tmp: str | None = None) -> None:
        """`tmp` is the folder to make it in, created if absent; None is the system's. RecipeError where it cannot be used."""
        with _blaming(tmp):
            root = Path(tempfile.gettempdir() if tmp is None else tmp)
            root.mkdir(parents=True, exist_ok=True)
            for folder in root.glob(f"{_PREFIX}*"):
                _remove_abandoned(folder)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        self._lock = os.open(self.path / f"{_LOCK}-new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Locked before it has the name by which others look for it.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / f"{_LOCK}-new").rename(self.path / _LOCK)

    def close(self) -> None:
        """Remove the folder; a download that cannot be stopped may still write into it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def check_tmp(tmp: str | None) -> None:
    """Raise RecipeError where `RunFolder` could not be made there; nothing is left behind."""
    with _blaming(tmp):
        root = Path(tempfile.gettempdir() if tmp is None else tmp).absolute()
        # Where a file stands on the way, making a folder in it fails and says so.
        place = next(place for place in (root, *root.parents) if os.path.lexists(place))
        Path(tempfile.mkdtemp(prefix=f"{_PREFIX}tried-", dir=place)).rmdir()


@contextlib.contextmanager
def _blaming(tmp: str | None) -> Iterator[None]:
    """Turn what opening a path raises into an error about the setting `tmp`."""
    try:
        yield
    except (OSError, ValueError) as error:
        came = "the system's folder for temporary files cannot be used" if tmp is None else f"tmp is {tmp}, which is no folder to write in"
        why = getattr(error, "strerror", None) or error
        raise RecipeError(f"{came} ({why}); name a folder on a disk with room, such as tmp: /var/tmp") from error


def _remove_abandoned(folder: Path) -> None:
    """Remove the folder of a dead process; those of others, and of other users, stay."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
