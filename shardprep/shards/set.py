"""A shard set: a folder of shards made by one step, described by its `set.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from shardprep.errors import Damaged, ShardError
from shardprep.shards.ledger import Footer, Ledger, read_footer, read_ledger
from shardprep.shards.names import DIGESTS_FILE, SET_FILE, LedgerName, ledgers_by_shard, parse_ledger_name, shard_of
from shardprep.shards.sealed import read_sealed, write_sealed
from shardprep.shards.store import Store

_LEDGERS = "ledgers"
"""The one field of `digests.json`: what is known of each ledger, by file name."""
_MEND = "Run the recipe again: it writes this file anew, and no shard is lost"

SetKind = Literal["base", "sidecar", "packed"]


@dataclass(frozen=True, kw_only=True)
class NotedStep:
    """A step of the recipe that was run last, whether or not it was made."""

    name: str
    kind: Literal["pass", "select", "pack"]
    reads: str
    """The step that it reads, or `raw`."""
    does: Any
    """What its set has as `identity`, with the names of weights in place of their digests; None where it could not be told."""


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
    made_as: tuple[str, ...] = ()
    """Only where samples came from a source: the beginning of the fingerprint that each shard is to have, in the order of `shards`."""
    steps: tuple[NotedStep, ...] = ()
    """Only where samples came from a source: the steps of the recipe that was run last, noted before any is made."""
    former: tuple[str, ...] = ()
    """Only there: steps of earlier recipes, whose sets lie in the output though no step of the last one makes them."""
    sees_all: bool = False
    """Whether each shard was made from all shards of the parents (a limit, a draw) and not only from its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What is known of a committed shard without opening its ledger."""

    ledger: str
    digest: str
    tar: str | None
    fingerprint: str
    step_fingerprint: str
    counts: Mapping[str, int]
    inputs: tuple[str, ...] = ()
    """The digests of the ledgers that it was made from, in the order of the set's parents."""
    seconds: float = 0.0
    cost_seconds: float = 0.0
    """`seconds`, and what the outcomes that were used again had taken before."""
    decodes: int = 0
    tar_bytes: int = 0
    code: Mapping[str, str] = field(default_factory=dict)
    """Digests of the code of stages that were not shardprep's own, by name."""

    @classmethod
    def from_footer(cls, ledger: str, footer: Footer) -> Committed:
        return cls(
            ledger=ledger,
            digest=footer.digest,
            tar=footer.tar.name if footer.tar else None,
            fingerprint=footer.fingerprint,
            step_fingerprint=footer.step_fingerprint,
            counts=dict(footer.counts),
            inputs=tuple(ref.digest for ref in footer.inputs),
            seconds=round(sum(footer.seconds.values()), 3),
            cost_seconds=round(sum(footer.seconds.values()) + footer.reused_seconds, 3),
            decodes=footer.decodes,
            tar_bytes=footer.tar.size if footer.tar else 0,
            code=dict(footer.code),
        )


Refusal = Callable[[Committed], str | None]
"""Says why a ledger does not count, in words; None where it does."""


@dataclass(frozen=True, kw_only=True)
class FoundShard:
    """What stands of one shard."""

    current: Committed | None = None
    """The ledger that counts."""
    why_missing: str | None = None
    """Why none does: in words, empty where there is simply no ledger."""
    why_stale: str | None = None
    """Why the one that is there does not count."""
    newest: LedgerName | None = None
    """The name with the highest number, also where it cannot be read."""


class ShardSet:
    """The shards of one folder, by name; a ledger is opened only where `digests.json` does not know it yet."""

    def __init__(self, store: Store, info: SetInfo, known: Iterable[Committed] | None = None) -> None:
        """`known` takes the place of `digests.json` where a manifest says what there is."""
        self.store = store
        self.info = info
        self.listed: Mapping[str, int] | None = store.names() if known is None else None
        """Files and sizes as they were when the set was opened."""
        self._known: dict[str, Committed] = (
            _read_digests(store, self.listed) if self.listed is not None else {one.ledger: one for one in known or ()}
        )
        self._noted = dict(self._known)
        self.ledgers_opened = 0

    @classmethod
    def open(cls, store: Store) -> ShardSet:
        """Open the set in a folder; ShardError where there is none."""
        info = read_info(store)
        if info is None:
            raise no_set(store.url)
        return cls(store, info)

    def committed(self, name: str) -> Committed:
        """Return what is known of the ledger with this file name."""
        if name not in self._known:
            self.ledgers_opened += 1
            self._known[name] = Committed.from_footer(name, read_footer(self.store.small(name), f"{self.store.url}/{name}"))
        return self._known[name]

    def readable(self, name: str) -> Committed | None:
        """Return what is known of a ledger, or None where it cannot be read or is no longer there."""
        found = None
        with suppress(ShardError), self.store.unless_gone(name):
            found = self.committed(name)
        return found

    def whole(self, name: str, sizes: Mapping[str, int]) -> Committed | None:
        """Return what is known of a readable ledger whose tar is listed in `sizes` as large as it was; else None."""
        committed = self.readable(name)
        if committed and committed.tar and sizes.get(committed.tar) != committed.tar_bytes:
            return None
        return committed

    def remember(self, committed: Committed) -> None:
        """Take note of a ledger that was just committed."""
        self._known[committed.ledger] = committed

    def known(self) -> list[Committed]:
        """Return what is known of ledgers without opening any."""
        return list(self._known.values())

    @property
    def has_news(self) -> bool:
        """Whether more is known of the set's ledgers than `digests.json` said when the set was opened."""
        return self._known != self._noted

    def save_digests(self) -> None:
        """Write `digests.json` where it would change: a cache of the footers of the ledgers that lie there.

        Called before a shard is made again as well: a ledger that is made anew under an old name must not find what was
        known of the old one.
        """
        sizes = self.store.names()
        noted = {
            name: {**asdict(c), "inputs": list(c.inputs), "ledger_bytes": sizes[name]}
            for name, c in sorted(self._known.items())
            if name in sizes
        }
        # What another run noted at the same time stays.
        saved = _load_digests(self.store) if DIGESTS_FILE in sizes else {}
        merged = {name: entry for name, entry in saved.items() if entry["ledger_bytes"] == sizes.get(name)} | noted
        if merged != saved:
            write_sealed(self.store, DIGESTS_FILE, {_LEDGERS: merged})

    def current(self) -> dict[str, Committed]:
        """Return the ledgers of this set's own step by shard, whatever they were made from; for what may be read see `lineage`."""
        found = self.find_all(self.info.shards)
        return {shard: one.current for shard, one in found.items() if one.current is not None}

    def find_all(self, shards: Iterable[str]) -> dict[str, FoundShard]:
        """Return what stands of shards as far as this set's own step says."""
        sizes = self.store.names()
        names = ledgers_by_shard(sizes)
        return {shard: self.find(names.get(shard, ()), sizes, self.of_other_settings) for shard in shards}

    def of_other_settings(self, committed: Committed) -> str | None:
        """Say where a ledger is not of the step that `set.json` describes."""
        return None if committed.step_fingerprint == self.info.step_fingerprint else "it was made with other settings"

    def find(self, names: Iterable[LedgerName], sizes: Mapping[str, int], refusal: Refusal) -> FoundShard:
        """Return what stands of one shard; `names` are its ledgers, `sizes` the files that are there.

        Of the ledgers with one fingerprint only that with the highest number counts, so one that cannot be read is a lost shard.
        Of several that may count that one does which is superseded by no other.
        """
        newest: dict[str, LedgerName] = {}
        for name in sorted(names):
            newest[name.fingerprint] = name
        valid: dict[LedgerName, Committed] = {}
        lost: list[str] = []
        stale: list[str] = []
        for name in newest.values():
            try:
                with self.store.unless_gone(str(name)):
                    committed = self.committed(str(name))
                    if committed.fingerprint[:8] != name.fingerprint:
                        lost.append(f"{name} is the ledger with the fingerprint {committed.fingerprint[:8]}, renamed")
                    elif (why := refusal(committed)) is not None:
                        stale.append(why)
                    elif committed.tar is not None and sizes.get(committed.tar) != committed.tar_bytes:
                        lost.append(f"its tar {committed.tar} is missing or cut short")
                    else:
                        valid[name] = committed
            except ShardError as error:
                lost.append(str(error))
        if valid:
            name = self._unsuperseded(list(valid))
            return FoundShard(current=valid[name], newest=name)
        last = max(newest.values(), key=lambda name: name.retry, default=None)
        return FoundShard(why_stale=stale[0], newest=last) if stale and not lost else FoundShard(why_missing="".join(lost[:1]), newest=last)

    def ledger(self, name: str) -> Ledger:
        """Read a whole ledger by file name."""
        return read_ledger(self.store.small(name), f"{self.store.url}/{name}")

    def _unsuperseded(self, names: list[LedgerName]) -> LedgerName:
        if len(names) > 1:
            old = {old for name in names for old in read_footer(self.store.small(str(name)), str(name)).supersedes}
            names = [name for name in names if str(name) not in old] or names
        return max(names, key=lambda name: name.retry)

    def collect(self, keep: Mapping[str, Committed], *, is_unchanged: bool = False) -> list[str]:
        """Remove ledgers and tars that no shard of `keep` needs, and what killed writers left; return the names removed.

        Only called when every shard of the set is committed: until then a tar without a ledger may be another run's work.
        If another run has changed `set.json`, remove temporaries only: the set is that run's now. Shards that another run
        has retried meanwhile stay as they are. Where `is_unchanged` (nothing was made since the set was
        opened) and there was nothing to remove then, the folder is not listed again.
        """
        removed = self.store.clean_temporaries()
        needed = {c.ledger for c in keep.values()} | {c.tar for c in keep.values() if c.tar}
        if is_unchanged and self.listed is not None and not any(shard_of(name) and name not in needed for name in self.listed):
            return removed
        names = self.store.names()
        ledgers = {name: parsed for name in names if (parsed := parse_ledger_name(name))}
        latest = {(parsed.shard, parsed.fingerprint): parsed.retry for name in needed if (parsed := parse_ledger_name(name))}
        retried = {
            parsed.shard for parsed in ledgers.values() if parsed.retry > latest.get((parsed.shard, parsed.fingerprint), parsed.retry)
        }
        unneeded = [name for name in names if (shard := shard_of(name)) and name not in needed and shard not in retried]
        if unneeded and read_info(self.store) == self.info:
            for name in unneeded:
                self.store.remove(name)
                removed.append(name)
        return removed


def no_set(url: str) -> ShardError:
    """Return the error for a URL at which no set lies."""
    return ShardError(f"{url} is no shard set: it has no {SET_FILE}. Name the folder of a step, such as OUT/clips")


def read_info(store: Store) -> SetInfo | None:
    """Read `set.json`, or return None where there is none; Damaged where it is not as it was written, ShardError for another format."""
    return read_sealed(store, SET_FILE, _MEND, _info)


def _info(values: Mapping[str, Any]) -> SetInfo:
    tuples = {name: tuple(values[name]) for name in ("parents", "shards", "made_as", "former")}
    return SetInfo(**{**values, **tuples, "steps": tuple(NotedStep(**step) for step in values["steps"])})


def read_info_to_replace(store: Store) -> SetInfo | None:
    """Return what `read_info` does for a run, which writes `set.json` anew: a damaged one counts as none."""
    with suppress(Damaged):
        return read_info(store)
    return None


def write_info(store: Store, info: SetInfo) -> bool:
    """Write `set.json` where it would change; return whether it did."""
    if read_info_to_replace(store) == info:
        return False
    write_sealed(store, SET_FILE, asdict(info))
    return True


def relative_url(url: str, relative: str) -> str:
    """Return the URL of a neighbouring set: `../clips` seen from `s3://bucket/out/scores` is `s3://bucket/out/clips`."""
    base = url.rstrip("/")
    while relative.startswith("../"):
        base, relative = base.rsplit("/", 1)[0], relative[3:]
    return f"{base}/{relative}"


def _read_digests(store: Store, sizes: Mapping[str, int]) -> dict[str, Committed]:
    """Return what `digests.json` says of the ledgers that still lie there as they were."""
    if DIGESTS_FILE not in sizes:
        return {}
    known = {}
    for name, entry in _load_digests(store).items():
        values = dict(entry)
        if values.pop("ledger_bytes", None) == sizes.get(name):
            known[name] = Committed(**values | {"inputs": tuple(values["inputs"])})
    return known


def _load_digests(store: Store) -> dict[str, dict[str, Any]]:
    """Return the entries of `digests.json`; none where it is damaged, for it is only a cache of what the ledgers say."""
    try:
        return read_sealed(store, DIGESTS_FILE, "", _entries) or {}
    except ShardError:
        return {}


def _entries(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    fields = {*Committed.__dataclass_fields__, "ledger_bytes"}
    return {name: entry for name, entry in values[_LEDGERS].items() if entry.keys() == fields}


def damage_of_digests(store: Store) -> str | None:
    """Say what is wrong with `digests.json`; None where it is whole, or not there."""
    try:
        entries = read_sealed(store, DIGESTS_FILE, "", _entries) or {}
    except ShardError as error:
        return str(error).rstrip(". ")
    # A ledger is removed only after what has taken its place was noted.
    return "it is that of another set: no ledger that it names is here" if entries and not entries.keys() & store.names().keys() else None
