"""Which version of a file was seen, so that a later reader can say whether it still is that one."""

from __future__ import annotations

import os
from dataclasses import dataclass

from shardprep.errors import SourceChanged


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What tells two versions of a file apart.

    An inode alone does not: file systems in user space number anew what they have forgotten. A changed inode with another time of
    change is another file, even where size and mtime are the same (a copy that keeps times, an unpacked tar).
    """

    size: int
    """Bytes of the whole file."""
    tag: str
    """Its ETag, or its mtime in ns on a disk."""
    inode: int | None = None
    changed_ns: int | None = None
    """Time of change (ctime), which no program can set."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileVersion:
        """Return the version of a file on a disk."""
        return cls(status.st_size, str(status.st_mtime_ns), status.st_ino, status.st_ctime_ns)

    def check(self, now: FileVersion | None, what: str) -> None:
        """Raise SourceChanged where the file, called `what`, is gone (None) or of another version by now."""
        if now is None:
            raise SourceChanged(f"{what} was removed after it was listed; run again")
        if now.size != self.size:
            raise SourceChanged(f"{what} was changed after it was listed: it had {self.size} bytes and has {now.size}; run again")
        if now.tag != self.tag:
            raise SourceChanged(f"{what} was changed after it was listed; run again")
        if None not in (self.inode, now.inode) and self.inode != now.inode and self.changed_ns != now.changed_ns:
            # The next listing cannot tell it from what was listed, so that only `retry` asks for it again.
            raise SourceChanged(f"{what} was replaced after it was listed, by a file of equal size and time; run again with retry")
