"""Which shards of a set count: those that its step made from just what stands, link by link back to the source.

A link is a digest. What a set or a step is called is for people: a step that was renamed changes nothing below it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from shardprep.core.fingerprint import input_of, shard_fingerprint
from shardprep.core.quantity import are, counted
from shardprep.errors import Damaged, IncompleteSet
from shardprep.shards.names import SET_FILE, ledgers_by_shard, set_name, shard_of
from shardprep.shards.set import Committed, FoundShard, ShardSet, no_set, read_info, relative_url
from shardprep.shards.store import Store

RECIPE_FILE = "(for RECIPE put the recipe's file)"
"""Said beside a command where nobody knows that file."""


@dataclass
class Standing:
    """A set, the sets that it was made from, and what of it counts."""

    set: ShardSet
    parents: tuple[Standing | None, ...]
    """Base first; None for one whose folder was removed as a whole, which nobody can check any more."""
    shards: tuple[str, ...] = ()
    """The shards that the set is to have: those of what it was made from, where that is there."""
    found: Mapping[str, FoundShard] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The set's name for messages: the last part of its URL."""
        return set_name(self.set.store.url)

    @cached_property
    def current(self) -> dict[str, Committed]:
        """The shards that count, by name."""
        return {shard: current for shard in self.shards if (current := self.found[shard].current) is not None}

    @cached_property
    def stale(self) -> dict[str, str]:
        """Why shards that are there do not count, by name."""
        return {shard: why for shard in self.shards if (why := self.found[shard].why_stale) is not None}

    @cached_property
    def missing(self) -> dict[str, str]:
        """Why shards are not there, by name: nobody made them, or they are damaged."""
        return {shard: why or "no valid ledger" for shard in self.shards if (why := self.found[shard].why_missing) is not None}

    def says_left(self, step: str) -> bool:
        """Whether the source's set, from which this one comes, notes that the recipe no longer has a step."""
        oldest: Standing | None = self
        while oldest is not None and oldest.parents:
            oldest = oldest.parents[0]
        return oldest is not None and step in oldest.set.info.former

    @property
    def unlisted(self) -> list[str]:
        """Shards that what the set was made from has and `set.json` does not list."""
        return sorted(set(self.shards) - set(self.set.info.shards))

    @property
    def superfluous(self) -> list[str]:
        """Shards that `set.json` lists and what the set was made from no longer has."""
        return sorted(set(self.set.info.shards) - set(self.shards))

    def supersedes(self, name: str) -> bool:
        """Whether a file in the set's folder is a ledger or tar that nobody counts on.

        The files of a shard that is missing or out of date are not: the next run copies outcomes from them.
        """
        shard = shard_of(name)
        if shard is None or name in self._needed:
            return False
        return shard in self.current or not (shard in self.shards or shard in self.set.info.shards)

    @cached_property
    def _needed(self) -> frozenset[str | None]:
        return frozenset(name for committed in self.current.values() for name in (committed.ledger, committed.tar))

    def lacks(self) -> str | None:
        """Say how many shards are missing or out of date, and why the first is; None where all count."""
        whys = {shard: why for shard in self.shards if (why := self.stale.get(shard) or self.missing.get(shard))}
        if not whys:
            return None
        first = next(iter(whys))
        of_all = f"{len(whys)} of {counted(len(self.shards), 'shard')} {are(len(whys))}"
        return f"{of_all} missing or out of date, first {first} ({whys[first]})"

    def require(self, *, partial: bool = False) -> dict[str, Committed]:
        """Return the shards that count; IncompleteSet where one does not or is not there, unless `partial`."""
        if not partial and (lacks := self.lacks()):
            remedy = left_remedy(self.set.store.url) if self.says_left(self.name) else "Run the recipe again"
            raise IncompleteSet(f"{self.set.store.url}: {lacks}. {remedy}")
        return self.current


def left_remedy(url: str) -> str:
    """Say what to do with an incomplete set whose step the recipe no longer has."""
    command = shlex.join(["shardprep", "clean", url.rstrip("/").rpartition("/")[0], "--recipe", "RECIPE"])
    return f"The recipe no longer has this step, and no run makes it whole. Remove it with: {command} {RECIPE_FILE}"


def stand(url: str, storage_options: Mapping[str, object] | None = None) -> Standing:
    """Return what of the set at a URL counts; ShardError where there is none."""
    standing = _Opening(storage_options).at(Store(url, storage_options).url)
    if standing is None:
        raise no_set(url)
    return standing


class _Opening:
    """Opens sets and what they were made from, each once."""

    def __init__(self, storage_options: Mapping[str, object] | None) -> None:
        self._options = storage_options
        self._opened: dict[str, Standing | None] = {}

    def at(self, url: str, below: tuple[str, ...] = ()) -> Standing | None:
        if url in below:
            raise Damaged(f"{url}/{SET_FILE} names itself among its parents. Run the recipe again")
        if url not in self._opened:
            store = Store(url, self._options)
            info = read_info(store)
            self._opened[url] = None if info is None else self._stand(ShardSet(store, info), (*below, url))
        return self._opened[url]

    def _stand(self, own: ShardSet, below: tuple[str, ...]) -> Standing:
        parents = tuple(self.at(relative_url(own.store.url, parent), below) for parent in own.info.parents)
        last = next((parent for parent in reversed(parents) if parent is not None), None)
        standing = Standing(own, parents, last.shards if last else own.info.shards)
        sizes = own.store.names()
        names = ledgers_by_shard(sizes)
        expected = _Expected(standing)
        standing.found = {shard: own.find(names.get(shard, ()), sizes, partial(expected.refusal, shard)) for shard in standing.shards}
        return standing


class _Expected:
    """What the ledgers of a set must have been made from."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._info = standing.set.info
        self._made_as = dict(zip(self._info.shards, self._info.made_as, strict=False))
        self._digests: dict[str, Sequence[str] | None] = {}
        if self._info.sees_all and None not in standing.parents:
            self._digests = {shard: self._inputs(shard) for shard in standing.shards}

    def refusal(self, shard: str, committed: Committed) -> str | None:
        """Say why a ledger of a shard does not count; None where it does."""
        if why := self._standing.set.of_other_settings(committed):
            return f"{self._standing.name}/{committed.ledger}: {why}"
        if why := self._broken_link(shard, committed):
            return f"{self._standing.name}/{committed.ledger} was not made from {why}"
        if not committed.fingerprint.startswith(self._made_as.get(shard, "")):
            return f"{self._standing.name}/{committed.ledger} was not made from the sources as they are"
        read = input_of(shard, self._digests, sees_all=True) if self._digests else None
        if read is not None and committed.fingerprint != shard_fingerprint(self._info.step_fingerprint, read):
            return f"{self._standing.name}/{committed.ledger} was not made from all of the shards as they are"
        return None

    def _broken_link(self, shard: str, committed: Committed) -> str | None:
        if len(committed.inputs) != len(self._standing.parents):
            return f"the {len(self._standing.parents)} sets that {SET_FILE} names"
        for parent, made_from in zip(self._standing.parents, committed.inputs, strict=True):
            if parent is None:
                continue
            stands = parent.current.get(shard)
            if stands is None:
                return f"{parent.name}/{shard} as it is: that shard is missing or out of date"
            if stands.digest != made_from:
                return f"{parent.name}/{stands.ledger} (digest {stands.digest[:12]})"
        return None

    def _inputs(self, shard: str) -> list[str] | None:
        linked = [parent.current.get(shard) if parent else None for parent in self._standing.parents]
        return None if None in linked else [one.digest for one in linked if one]
