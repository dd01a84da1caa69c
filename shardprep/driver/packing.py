"""The pack step of a run: what goes into which training shard of a packing, its manifest, and the pointer that makes it count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from shardprep.core.fingerprint import digest, shard_fingerprint
from shardprep.driver.identity import differences, gather_identity, other_parents
from shardprep.driver.state import StepState, check_set_kind
from shardprep.errors import ShardError, Unavailable
from shardprep.gather.failed import commit_failed
from shardprep.gather.outline import Outline, OutlineTask
from shardprep.gather.pack import PackTask
from shardprep.gather.planning import PackPlan, PlannedShard, plan_shards
from shardprep.gather.settings import Pack
from shardprep.packed.clean import older_packings
from shardprep.packed.making import make_manifest
from shardprep.packed.names import CARD_FILE, FAILED_SHARD, INDEX_FILE, MANIFEST_FILE, ROWS_SUFFIX, packing_name
from shardprep.packed.packing import Packing, current_packing, whole_packing
from shardprep.packed.pointer import has_card, point
from shardprep.packed.repair import remove_damaged
from shardprep.recipe.model import Recipe
from shardprep.shards.ledger import InputRef
from shardprep.shards.names import LEDGERS, SET_FILE, ledger_name, parse_ledger_name
from shardprep.shards.set import Committed, SetInfo, ShardSet, read_info_to_replace, write_info
from shardprep.shards.store import Store


class PackStep:
    """One pack step: finds the packing that it is to make, makes the tasks, and makes the packing count."""

    def __init__(self, recipe: Recipe, name: str, settings: Pack, parent: StepState) -> None:
        self._options = recipe.settings.storage_options
        self._settings, self._parent = settings, parent
        self._step = Store(recipe.output, self._options).at(name)
        self._was = read_info_to_replace(self._step)
        check_set_kind(self._step, self._was, packs=True)
        identity = gather_identity(settings)
        self._info = SetInfo(
            step=name,
            kind="packed",
            step_fingerprint=digest(identity),
            identity=identity,
            parents=tuple(f"../{state.name}" for state in parent.joined),
            shards=(),
        )
        inputs = {shard: parent.digests(shard) for shard in parent.info.shards}
        self.fingerprint = None if None in inputs.values() else shard_fingerprint(self._info.step_fingerprint, inputs)
        self._tasks: dict[str, PackTask] = {}
        self._buckets: Mapping[str, Any] = {}
        self._failed: Committed | None = None
        self._first_failed = ""
        self._finished: Packing | None = None

    @property
    def url(self) -> str:
        return self._step.url

    @property
    def name(self) -> str:
        return self._info.step

    @property
    def _store(self) -> Store:
        """The folder of the packing that this step is to make."""
        assert self.fingerprint is not None, "packed from a set that is not complete"
        return self._step.at(packing_name(self.fingerprint))

    def current(self) -> Packing | None:
        """Return the packing that counts so far, of whatever settings; None where none is whole."""
        current = None
        with suppress(ShardError), self._step.unless_gone(MANIFEST_FILE):
            current = current_packing(self._step)
        return current

    def is_done(self) -> bool:
        """Whether the packing that counts is made from just this, whole, and the files in the folder of the step go with it."""
        current = self.current()
        if current is None or current.manifest.fingerprint != self.fingerprint or self._was != self._info:
            return False
        if not has_card(self._step, current.manifest):
            return False
        self._finished = current
        return True

    def reasons(self) -> tuple[str, ...]:
        """Say why the packing that counts is not the one that this step is to make."""
        if self.is_done() or self._step.size(MANIFEST_FILE) is None:
            return ()
        current = self.current()
        if current is None:
            return ("files of it are missing or damaged",)
        if current.manifest.fingerprint == self.fingerprint:
            return ("it is there, and its description is to be written again",)
        others = other_parents(current.info.parents, self._info.parents)
        return tuple(differences(current.info.identity, self._info.identity) or [others or "what it packs changed"])

    def is_whole(self) -> bool:
        """Whether the packing that this step is to make is there, be it the one that counts or not."""
        return self._whole() is not None

    def adopt(self) -> bool:
        """Make a packing that is whole already the one that counts; False where it is still to be made."""
        packing = self._whole()
        if packing is not None:
            self._point(packing)
        return packing is not None

    def _whole(self) -> Packing | None:
        if self.fingerprint is not None:
            with suppress(ShardError):
                return whole_packing(self._store)
        return None

    def repair(self) -> list[str]:
        """Take away what is damaged in the packing that is there; return what is wrong with it. Every byte of it is read."""
        # What is torn, or lacks a document, is made again anyway.
        packing = self._whole()
        return remove_damaged(packing) if packing is not None else []

    def outline_tasks(self) -> list[OutlineTask]:
        """Return the input shards to outline: what `start` plans with."""
        return [
            OutlineTask(
                step=self._info.step,
                shard=shard,
                rows_url=self._store.at(LEDGERS).url,
                chain=self._parent.chain(shard),
                settings=self._settings,
                storage_options=self._options,
            )
            for shard in self._parent.info.shards
        ]

    def start(self, outlines: Iterable[Outline]) -> list[PackTask]:
        """Decide what goes where, and return the shards that are still to be written."""
        plan = plan_shards(outlines, self._settings)
        chains = {shard: self._parent.chain(shard) for shard in self._parent.info.shards}
        # By the shard, not by its ledger, whose name counts retries: equal samples make equal packings, to the byte.
        references = {shard: replace(chain[-1].reference(), ledger=shard) for shard, chain in chains.items()}
        tars = next((tuple(at.tars or at.url for at in chain) for chain in chains.values()), ())
        self._buckets = plan.buckets
        self._tasks = {planned.name: self._task(planned, plan, references, tars) for planned in plan.shards}
        # Before anything is taken away or made: what is in the way stops the work at its end.
        self._step.refuse_folders([MANIFEST_FILE, CARD_FILE])
        self._store.refuse_folders([SET_FILE, MANIFEST_FILE, INDEX_FILE, *(f"{shard}.tar" for shard in self._tasks)])
        self._store.at(LEDGERS).refuse_folders(str(ledger_name(shard, task.fingerprint)) for shard, task in self._tasks.items())
        write_info(self._step, self._info)
        self._withdraw_torn()
        self._describe([*self._tasks, *([FAILED_SHARD] if plan.unpackable else [])])
        todo = self._unmade()
        if plan.unpackable:
            self._failed = commit_failed(self._store.at(LEDGERS), self._info, plan.unpackable, references)
            self._first_failed = next(f"{sample.key}: {sample.detail}" for found in plan.unpackable.values() for sample in found)
        return todo

    def counts(self) -> Mapping[str, int]:
        """Return how many samples are packed and how many cannot be, as ledgers count them; known once the step has started."""
        failed = self._failed.counts if self._failed else {}
        return {"input.kept": sum(len(task.planned.places) for task in self._tasks.values()), **failed}

    def first_failed(self) -> str:
        """Return the first sample that cannot be packed, and why; empty where all can be."""
        return self._first_failed

    def finish(self) -> None:
        """Write the index and the manifest of the packing, and make it the one that counts."""
        ledgers = {shard: str(ledger_name(shard, task.fingerprint)) for shard, task in self._tasks.items()}
        there = self._store.at(LEDGERS).names()
        if gone := [name for name in ledgers.values() if name not in there]:
            raise Unavailable(f"{self._store.url}: ledger {gone[0]} vanished: somebody cleaned this output. Run the recipe again")
        failed = self._failed.ledger if self._failed else None
        assert self.fingerprint is not None, "packed from a set that is not complete"
        make_manifest(self._store, self._info, self.fingerprint, list(ledgers.values()), failed, self._buckets)
        self._point(whole_packing(self._store))

    def finished(self) -> Packing:
        """Return the packing that this step has made, or found to be there."""
        return self._finished or whole_packing(self._store)

    def num_older(self) -> int:
        """Return how many packings lie beside the one that counts."""
        return len(older_packings(self._step, self.finished()))

    def tidy(self) -> None:
        """Remove what only the making of the packing needed, and temporaries of dead writers."""
        ledgers = self._store.at(LEDGERS)
        for name in ledgers.names():
            if name.endswith(ROWS_SUFFIX):
                ledgers.remove(name)
        for store in (self._step, self._store, ledgers):
            store.clean_temporaries()

    def _point(self, packing: Packing) -> None:
        # Before it counts: of the packing that counts `verify` knows every file.
        self.tidy()
        write_info(self._step, self._info)
        point(self._step, packing.manifest, packing.manifest_sha256)
        try:
            # In this order: `clean` withdraws a manifest before it looks at the pointer.
            self._finished = whole_packing(self._store)
        except ShardError as error:
            raise Unavailable(f"{self._store.url}: somebody cleaned this output at the same moment. Run the recipe again") from error

    def _withdraw_torn(self) -> None:
        """Take away a manifest that stands over a packing that lacks something."""
        if self._store.size(MANIFEST_FILE) is not None:
            try:
                whole_packing(self._store)
            except ShardError:
                self._store.remove(MANIFEST_FILE)

    def _describe(self, shards: list[str]) -> None:
        """Write what the packing is, with the names of its shards, before any of them."""
        parents = tuple(f"../{parent}" for parent in self._info.parents)
        write_info(self._store, replace(self._info, parents=parents, shards=tuple(shards)))

    def _unmade(self) -> list[PackTask]:
        """Return the tasks whose shards do not stand; ledgers that vouch for nothing, or for what is not planned, go."""
        # In this order: a ledger that is listed had its tar before it.
        ledgers = self._store.at(LEDGERS)
        there, sizes = ledgers.names(), self._store.names()
        known = ShardSet(ledgers, self._info, known=())
        tasks = {str(ledger_name(shard, task.fingerprint)): task for shard, task in self._tasks.items()}
        standing = {name for name in there if name in tasks and known.whole(name, sizes) is not None}
        for name in there:
            parsed = parse_ledger_name(name)
            if parsed and parsed.shard != FAILED_SHARD and name not in standing:
                ledgers.remove(name)
        return [task for name, task in tasks.items() if name not in standing]

    def _task(self, planned: PlannedShard, plan: PackPlan, references: Mapping[str, InputRef], tars: tuple[str, ...]) -> PackTask:
        inputs = {plan.files[name] for name in planned.files}
        return PackTask(
            step=self._info.step,
            shard=planned.name,
            out_url=self._store.url,
            fingerprint=shard_fingerprint(self._info.step_fingerprint, planned.content),
            step_fingerprint=self._info.step_fingerprint,
            planned=planned,
            roles=self._settings.roles,
            tars=tars,
            inputs=tuple(references[shard] for shard in sorted(inputs)),
            storage_options=self._options,
        )
