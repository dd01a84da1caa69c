"""The pack step of a run: what goes into which training shard, the index and the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from shardprep.core.fingerprint import digest, shard_fingerprint
from shardprep.driver.identity import differences, gather_identity
from shardprep.driver.state import StepState, check_kind
from shardprep.errors import ShardError, Unavailable
from shardprep.gather.manifest import MANIFEST_FILE, Manifest, read_manifest, remove_manifest, write_manifest
from shardprep.gather.outline import ROWS_SUFFIX, Outline, OutlineTask
from shardprep.gather.pack import PackTask
from shardprep.gather.planning import PlannedShard, plan_shards
from shardprep.gather.settings import Pack
from shardprep.recipe.model import Recipe
from shardprep.shards.ledger import InputRef
from shardprep.shards.names import LEDGERS, by_shard, ledger_name, parse_ledger_name
from shardprep.shards.set import Committed, SetInfo, ShardSet, read_info_to_replace, write_info
from shardprep.shards.store import Store


class Packing:
    """One pack step: compares the whole with the manifest, makes the tasks, and finishes the set."""

    def __init__(self, recipe: Recipe, name: str, settings: Pack, parent: StepState) -> None:
        self._options = recipe.settings.storage_options
        self._settings, self._parent = settings, parent
        self._store = Store(recipe.output, self._options).at(name)
        self._was = read_info_to_replace(self._store)
        check_kind(self._store, self._was, packs=True)
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
        self._buckets: Mapping[str, Any] = {}
        self._rows: Mapping[str, str] = {}
        self._references: Mapping[str, InputRef] = {}
        self._tars: tuple[str, ...] = ()
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
        """Return the manifest that stands in the folder, of whatever packing; None where it is damaged."""
        manifest = None
        with suppress(ShardError), self._store.unless_gone(MANIFEST_FILE):
            manifest = read_manifest(self._store)
        return manifest

    def is_done(self) -> bool:
        """Whether the packed set that stands is made from just this, and every file of it is there as large as it was."""
        manifest = self.manifest()
        if manifest is None or manifest.fingerprint != self.fingerprint or self._was is None:
            return False
        ledgers, sizes = self.ledgers.store.names(), self._store.names()
        listed = {manifest.index["name"]: manifest.index["size"], **{tar.name: tar.size for tar in manifest.shards}}
        packed = {committed.tar for name in ledgers if parse_ledger_name(name) and (committed := self.ledgers.whole(name, sizes))}
        return all(sizes.get(name) == size for name, size in listed.items()) and packed == {tar.name for tar in manifest.shards}

    def reasons(self) -> tuple[str, ...]:
        """Say why the packed set that stands is to be made again."""
        manifest = self.manifest()
        if manifest is None or self.is_done():
            return ()
        lines = differences(self._was.identity, self._info.identity) if self._was else []
        if not lines:
            lines = ["files of it are missing or damaged" if manifest.fingerprint == self.fingerprint else "what it packs changed"]
        return tuple(lines)

    def outline_tasks(self) -> list[OutlineTask]:
        """Return the input shards to outline: what `start` plans with."""
        return [
            OutlineTask(
                step=self._info.step,
                shard=shard,
                rows_url=self.ledgers.store.url,
                chain=self._parent.chain(shard),
                settings=self._settings,
                storage_options=self._options,
            )
            for shard in self._parent.info.shards
        ]

    def start(self, outlines: Iterable[Outline]) -> list[PackTask]:
        """Decide what goes where, take the manifest away and return the shards that are still to be written."""
        plan = plan_shards(outlines, self._settings)
        remove_manifest(self._store)
        self._buckets = plan.buckets
        self._rows = plan.files
        chains = {shard: self._parent.chain(shard) for shard in self._rows.values()}
        self._references = {shard: chain[-1].reference() for shard, chain in chains.items()}
        self._tars = next((tuple(at.tars or at.url for at in chain) for chain in chains.values()), ())
        self._tasks = {planned.name: self._task(planned) for planned in plan.shards}
        self._info = replace(self._info, shards=tuple(self._tasks))
        self.ledgers.info = self._info
        write_info(self._store, self._info)
        # In this order: a ledger that is listed had its tar before it.
        ledgers = self.ledgers.store.names()
        sizes = self._store.names()
        earlier = by_shard(ledgers)
        todo = []
        for shard, task in self._tasks.items():
            name = str(ledger_name(shard, task.fingerprint))
            if name in ledgers and self.ledgers.whole(name, sizes) is None:
                self.ledgers.store.remove(name)
            elif name in ledgers:
                continue
            todo.append(replace(task, earlier=tuple(other for other in earlier.get(shard, ()) if other != name)))
        self.ledgers.save_digests()
        return todo

    def finish(self) -> None:
        """Remove what is left of other packings, write the index and, last, the manifest."""
        for name in self._store.names():
            if name.endswith(".tar") and name.removesuffix(".tar") not in self._tasks:
                self._store.remove(name)
        kept = {str(ledger_name(shard, task.fingerprint)) for shard, task in self._tasks.items()}
        for name in self.ledgers.store.names():
            if parse_ledger_name(name) and name not in kept:
                self.ledgers.store.remove(name)
        assert self.fingerprint is not None, "packed from a set that is not complete"
        manifest = write_manifest(self._store, self.ledgers, self.fingerprint, self._buckets)
        if len(manifest.shards) != len(self._tasks):
            remove_manifest(self._store)
            raise Unavailable(
                f"{self._store.url}: ledgers vanished while they were listed: another run uses this output. Run the recipe again"
            )

    def committed(self) -> dict[str, Committed]:
        """Return the ledgers of the finished set by shard, and note them for the next run; remove what only its making needed."""
        found = {name.shard: self.ledgers.committed(str(name)) for name in map(parse_ledger_name, self.ledgers.store.names()) if name}
        self.ledgers.save_digests()
        for name in self.ledgers.store.names():
            if name.endswith(ROWS_SUFFIX):
                self.ledgers.store.remove(name)
        self._store.clean_temporaries()
        self.ledgers.store.clean_temporaries()
        return found

    def _task(self, planned: PlannedShard) -> PackTask:
        inputs = {self._rows[name] for name in planned.files}
        return PackTask(
            step=self._info.step,
            shard=planned.name,
            out_url=self._store.url,
            fingerprint=shard_fingerprint(self._info.step_fingerprint, planned.content),
            step_fingerprint=self._info.step_fingerprint,
            planned=planned,
            roles=self._settings.roles,
            tars=self._tars,
            inputs=tuple(self._references[shard] for shard in sorted(inputs)),
            storage_options=self._options,
        )
