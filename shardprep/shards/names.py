"""File names inside a shard set: `000000-<sha12>.tar`, `000000-<fp8>.parquet`, and `-1`, `-2` … after a retry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SET_FILE = "set.json"
DIGESTS_FILE = "digests.json"
LEDGERS = "ledgers"
"""The subfolder of a packed set that holds its ledgers, so that loaders which glob the folder see tars only."""
SOURCE_TARS = "tars"
"""The subfolder of the source's own set that keeps what foreign tars hold: a cache."""
_LEDGER = re.compile(r"(?P<shard>[a-z0-9-]*?[0-9]{6})-(?P<fingerprint>[0-9a-f]{8})(?:-(?P<retry>[0-9]+))?\.parquet")
_TAR = re.compile(r"(?P<shard>[a-z0-9-]*?[0-9]{6})-(?P<sha>[0-9a-f]{12})\.tar")


@dataclass(frozen=True, order=True)
class LedgerName:
    """The parts of a ledger's file name."""

    shard: str
    fingerprint: str
    """The first 8 hex digits."""
    retry: int = 0

    def __str__(self) -> str:
        return f"{self.shard}-{self.fingerprint}{f'-{self.retry}' if self.retry else ''}.parquet"


def ledger_name(shard: str, fingerprint: str, retry: int = 0) -> LedgerName:
    """Return the name of the ledger of a shard with this fingerprint."""
    return LedgerName(shard, fingerprint[:8], retry)


def parse_ledger_name(name: str) -> LedgerName | None:
    """Return the parts of a ledger's name, or None where it is another file."""
    match = _LEDGER.fullmatch(name)
    return LedgerName(match["shard"], match["fingerprint"], int(match["retry"] or 0)) if match else None


def set_name(url: str) -> str:
    """Return what the set in a folder is called: the last part of its URL."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def shard_name(number: int) -> str:
    """Return the name of a shard: six digits."""
    return f"{number:06d}"


def tar_name(shard: str, sha256: str) -> str:
    """Return the name of a shard's tar, which says its content."""
    return f"{shard}-{sha256[:12]}.tar"


def by_shard(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of ledgers and tars by their shard; other files are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        if shard := shard_of(name):
            found.setdefault(shard, []).append(name)
    return found


def ledgers_by_shard(names: Iterable[str]) -> dict[str, list[LedgerName]]:
    """Return the ledgers among some file names, by shard."""
    found: dict[str, list[LedgerName]] = {}
    for parsed in filter(None, map(parse_ledger_name, names)):
        found.setdefault(parsed.shard, []).append(parsed)
    return found


def shard_of(name: str) -> str | None:
    """Return the shard that a ledger or a tar belongs to, or None where it is another file."""
    match = _LEDGER.fullmatch(name) or _TAR.fullmatch(name)
    return match["shard"] if match else None
