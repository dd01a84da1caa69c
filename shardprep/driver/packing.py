"""The pack step of a run: what goes into which training shard, the index and the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shardprep.core.fingerprint import digest
from shardprep.core.sample import Sample, flatten
from shardprep.driver.identity import gather_identity, shard_fingerprint
from shardprep.driver.state import StepState
from shardprep.gather.manifest import Manifest, read_manifest, remove_manifest, write_manifest
from shardprep.gather.pack import LEDGERS, Bucket, PackTask, bucket_of, member_suffixes, packed_size, shuffled
from shardprep.gather.settings import Pack
from shardprep.recipe.model import Recipe
from shardprep.shards.join import LedgerAt, read_chain
from shardprep.shards.names import ledger_name, parse_ledger_name
from shardprep.shards.set import Committed, SetInfo, ShardSet, write_info
from shardprep.shards.store import Store


@dataclass(frozen=True)
class _Located:
    """A sample and the input shard it lies in."""

    shard: str
    sample: Sample


class Packing:
    """One pack step: compares the whole with the manifest, makes the tasks, and finishes the set."""

    def __init__(self, recipe: Recipe, name: str, settings: Pack, parent: StepState) -> None:
        self._options = recipe.settings.storage_options
        self._settings, self._parent = settings, parent
        self._store = Store(recipe.output, self._options).at(name)
        identity = gather_identity(settings)
        self._info = SetInfo(
            step=name,
            kind="packed",
            step_fingerprint=digest(identity),
            identity=identity,
            parents=tuple(f"../{state.name}" for state in parent.joined),
            shards=(),
        )
        self._tasks: dict[str, PackTask] = {}
        inputs = {shard: parent.digests(shard) for shard in parent.info.shards}
        self.fingerprint = None if None in inputs.values() else shard_fingerprint(self._info.step_fingerprint, inputs)
        self.ledgers = ShardSet(self._store.at(LEDGERS), self._info)

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def name(self) -> str:
        return self._info.step

    def manifest(self) -> Manifest | None:
        """Return the manifest that stands in the folder, of whatever packing."""
        return read_manifest(self._store)

    def is_done(self) -> bool:
        """Whether the packed set that stands is made from just this."""
        manifest = self.manifest()
        return manifest is not None and manifest.fingerprint == self.fingerprint

    def start(self) -> list[PackTask]:
        """Take the manifest away, decide what goes where and return the shards that are still to be written."""
        remove_manifest(self._store)
        self._tasks = {task.shard: task for task in self._planned()}
        self._info = SetInfo(**{**vars(self._info), "shards": tuple(self._tasks)})
        self.ledgers.info = self._info
        write_info(self._store, self._info)
        sizes, ledgers = self._store.names(), self.ledgers.store.names()
        todo = []
        for shard, task in self._tasks.items():
            name = str(ledger_name(shard, task.fingerprint))
            if name not in ledgers or sizes.get(f"{shard}.tar") != self.ledgers.committed(name).tar_bytes:
                todo.append(task)
        return todo

    def finish(self) -> None:
        """Remove what is left of other packings, write the index and, last, the manifest."""
        self._store.clean_temporaries()
        self.ledgers.store.clean_temporaries()
        for name in self._store.names():
            if name.endswith(".tar") and name.removesuffix(".tar") not in self._tasks:
                self._store.remove(name)
        kept = {str(ledger_name(shard, task.fingerprint)) for shard, task in self._tasks.items()}
        for name in self.ledgers.store.names():
            if parse_ledger_name(name) and name not in kept:
                self.ledgers.store.remove(name)
        assert self.fingerprint is not None, "packed from a set that is not complete"
        write_manifest(self._store, self.ledgers, self.fingerprint)

    def committed(self) -> dict[str, Committed]:
        """Return the ledgers of the finished set by shard."""
        return {name.shard: self.ledgers.committed(str(name)) for name in map(parse_ledger_name, self.ledgers.store.names()) if name}

    def _planned(self) -> list[PackTask]:
        located = [_Located(shard, s) for shard in self._parent.info.shards for s in read_chain(self._parent.chain(shard), self._options)]
        members = member_suffixes([one.sample for one in located], self._settings)
        columns = tuple(sorted({name for one in located for name, _ in flatten(one.sample.record)}))
        buckets: dict[Bucket, dict[str, _Located]] = {}
        for one in located:
            buckets.setdefault(bucket_of(one.sample, self._settings), {})[one.sample.key] = one
        tasks = []
        for number, bucket in enumerate(sorted(buckets, key=repr)):
            samples = buckets[bucket]
            keys = shuffled(list(samples), self._settings.seed)
            for part, chosen in enumerate(self._divided([samples[key] for key in keys])):
                tasks.append(self._task(f"b{number:03d}-{part:06d}", chosen, members, columns))
        return tasks

    def _divided(self, samples: Sequence[_Located]) -> list[list[_Located]]:
        """Cut a bucket into shards of the target size."""
        limit = self._settings.shard_mib << 20
        shards: list[list[_Located]] = []
        room = 0
        for one in samples:
            size = packed_size(one.sample, self._settings)
            full = bool(shards) and self._settings.samples_per_shard is not None and len(shards[-1]) >= self._settings.samples_per_shard
            if not shards or size > room or full:
                shards.append([])
                room = limit
            shards[-1].append(one)
            room -= size
        return shards

    def _task(self, shard: str, chosen: Sequence[_Located], members: tuple[str, ...], columns: tuple[str, ...]) -> PackTask:
        keys: dict[str, tuple[str, ...]] = {}
        for one in chosen:
            keys[one.shard] = (*keys.get(one.shard, ()), one.sample.key)
        chains: dict[str, tuple[LedgerAt, ...]] = {name: self._parent.chain(name) for name in keys}
        order = tuple(one.sample.key for one in chosen)
        inputs = [shard, order, members, columns, {name: [at.digest for at in chain] for name, chain in chains.items()}]
        return PackTask(
            step=self._info.step,
            shard=shard,
            out_url=self._store.url,
            fingerprint=shard_fingerprint(self._info.step_fingerprint, inputs),
            step_fingerprint=self._info.step_fingerprint,
            members=members,
            columns=columns,
            roles=self._settings.roles,
            keys=keys,
            order=order,
            chains=chains,
            storage_options=self._options,
        )
