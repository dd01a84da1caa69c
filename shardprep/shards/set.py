"""A shard set: a folder of shards made by one step, described by its `set.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from shardprep.core.fingerprint import FORMAT_VERSION
from shardprep.errors import IncompleteSet, ShardError
from shardprep.shards.ledger import Footer, Ledger, read_footer, read_ledger
from shardprep.shards.names import DIGESTS_FILE, SET_FILE, LedgerName, parse_ledger_name, shard_of_tar
from shardprep.shards.store import Store

SetKind = Literal["base", "sidecar", "packed"]


@dataclass(frozen=True, kw_only=True)
class SetInfo:
    """The content of `set.json`, written before any shard."""

    step: str
    kind: SetKind
    """base: whole samples; sidecar: only what the step added, to be joined with its parents; packed: for training."""
    step_fingerprint: str
    identity: Any
    """What the step is: its stages with versions, settings and weights, or the gather's settings."""
    parents: tuple[str, ...]
    """The sets that it was made from, base first, as URLs relative to this one; empty where samples came from a source."""
    shards: tuple[str, ...]
    adds: Mapping[str, str] = field(default_factory=dict)
    """Columns and roles that the step adds, with their types."""
    assignment: str | None = None
    """The file that says which source lies in which shard."""
    format: int = FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What is known of a committed shard without opening its ledger."""

    ledger: str
    digest: str
    tar: str | None
    step_fingerprint: str
    counts: Mapping[str, int]
    seconds: float = 0.0
    decodes: int = 0
    tar_bytes: int = 0

    @classmethod
    def from_footer(cls, ledger: str, footer: Footer) -> Committed:
        return cls(
            ledger=ledger,
            digest=footer.digest,
            tar=footer.tar.name if footer.tar else None,
            step_fingerprint=footer.step_fingerprint,
            counts=dict(footer.counts),
            seconds=round(sum(footer.seconds.values()), 3),
            decodes=footer.decodes,
            tar_bytes=footer.tar.size if footer.tar else 0,
        )


class ShardSet:
    """The shards of one folder, by name; a ledger is opened only where `digests.json` does not know it yet."""

    def __init__(self, store: Store, info: SetInfo) -> None:
        self.store = store
        self.info = info
        self._known: dict[str, Committed] = _read_digests(store)
        self.ledgers_opened = 0

    @classmethod
    def open(cls, store: Store) -> ShardSet:
        """Open the set in a folder; ShardError where there is none."""
        info = read_info(store)
        if info is None:
            raise ShardError(f"{store.url} is no shard set: it has no {SET_FILE}. Name the folder of a step, such as OUT/clips")
        return cls(store, info)

    def committed(self, name: str) -> Committed:
        """Return what is known of the ledger with this file name."""
        if name not in self._known:
            self.ledgers_opened += 1
            self._known[name] = Committed.from_footer(name, read_footer(self.store.blob(name), f"{self.store.url}/{name}"))
        return self._known[name]

    def remember(self, committed: Committed) -> None:
        """Take note of a ledger that was just committed."""
        self._known[committed.ledger] = committed

    def known(self) -> list[Committed]:
        """Return what is known of ledgers without opening any."""
        return list(self._known.values())

    def save_digests(self) -> None:
        """Write `digests.json` where it would change: a cache of the footers of the ledgers that lie there."""
        names = self.store.names()
        known = {name: asdict(committed) for name, committed in sorted(self._known.items()) if name in names}
        data = json.dumps(known, indent=0, sort_keys=True).encode()
        if known and known != {name: asdict(c) for name, c in _read_digests(self.store).items()}:
            self.store.replace_bytes(DIGESTS_FILE, data)

    def current(self, *, partial: bool = False) -> dict[str, Committed]:
        """Return the valid ledger of every listed shard; IncompleteSet where one is missing, unless `partial`.

        Of several ledgers of one shard the one counts that was made by this set's step and is superseded by no other.
        """
        by_shard: dict[str, list[LedgerName]] = {shard: [] for shard in self.info.shards}
        for name in self.store.names():
            parsed = parse_ledger_name(name)
            if parsed and parsed.shard in by_shard:
                by_shard[parsed.shard].append(parsed)
        found = {shard: self._valid(names) for shard, names in by_shard.items()}
        missing = [shard for shard, committed in found.items() if committed is None]
        if missing and not partial:
            raise IncompleteSet(
                f"{self.store.url}: {len(missing)} of {len(found)} shards are missing or out of date, first {missing[0]}. "
                "Run the recipe again, or ask for a partial view"
            )
        return {shard: committed for shard, committed in found.items() if committed is not None}

    def ledger(self, name: str) -> Ledger:
        """Read a whole ledger by file name."""
        return read_ledger(self.store.blob(name), f"{self.store.url}/{name}")

    def _valid(self, names: list[LedgerName]) -> Committed | None:
        valid = [name for name in names if self.committed(str(name)).step_fingerprint == self.info.step_fingerprint]
        if len({name.fingerprint for name in valid}) > 1:
            superseded = {old for name in valid for old in read_footer(self.store.blob(str(name)), str(name)).supersedes}
            valid = [name for name in valid if str(name) not in superseded] or valid
        return self.committed(str(max(valid, key=lambda name: name.retry))) if valid else None

    def collect(self, keep: Mapping[str, Committed]) -> list[str]:
        """Remove ledgers and tars that no shard of `keep` needs, and what killed writers left; return the names removed.

        Only called when every shard of the set is committed: until then a tar without a ledger may be another run's work.
        """
        needed = {c.ledger for c in keep.values()} | {c.tar for c in keep.values() if c.tar}
        removed = self.store.clean_temporaries()
        for name in self.store.names():
            if name not in needed and (parse_ledger_name(name) or shard_of_tar(name)):
                self.store.remove(name)
                removed.append(name)
        return removed


def read_info(store: Store) -> SetInfo | None:
    """Read `set.json`, or return None where there is none."""
    if SET_FILE not in store.names():
        return None
    try:
        values = json.loads(store.read(SET_FILE))
        info = SetInfo(**values | {"parents": tuple(values["parents"]), "shards": tuple(values["shards"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(
            f"{store.url}/{SET_FILE} cannot be read ({error!r}). Delete it and run the recipe again; no shard is lost"
        ) from error
    if info.format != FORMAT_VERSION:
        raise ShardError(f"{store.url} has format {info.format}; this version of shardprep reads {FORMAT_VERSION}")
    return info


def write_info(store: Store, info: SetInfo) -> bool:
    """Write `set.json` where it would change; return whether it did."""
    if read_info(store) == replace(info):
        return False
    store.replace_bytes(SET_FILE, (json.dumps(asdict(info), indent=1, sort_keys=True) + "\n").encode())
    return True


def relative_url(url: str, relative: str) -> str:
    """Return the URL of a neighbouring set: `../clips` seen from `s3://bucket/out/scores` is `s3://bucket/out/clips`."""
    base = url.rstrip("/")
    while relative.startswith("../"):
        base, relative = base.rsplit("/", 1)[0], relative[3:]
    return f"{base}/{relative}"


def _read_digests(store: Store) -> dict[str, Committed]:
    if DIGESTS_FILE not in store.names():
        return {}
    try:
        return {name: Committed(**values) for name, values in json.loads(store.read(DIGESTS_FILE)).items()}
    except (TypeError, ValueError):
        # Only a cache: what it does not say is read from the ledgers.
        return {}
