"""The state of a step's shards: which are up to date, which must be made and why; read from names and `digests.json`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.core.plan import PlannedPass
from shardprep.driver.identity import differences, gather_identity, pass_identity, shard_fingerprint
from shardprep.gather.settings import Select
from shardprep.recipe.model import RAW, Gather, Pass, Recipe
from shardprep.runtime.task import WorkSettings
from shardprep.shards.join import Chain, chain_of
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.set import Committed, SetInfo, ShardSet, read_info, write_info
from shardprep.shards.store import Store
from shardprep.sources.assign import assign_shards
from shardprep.sources.entry import SourceEntry
from shardprep.sources.listing import list_source


@dataclass(frozen=True)
class Todo:
    """A shard to make."""

    fingerprint: str
    why: Literal["new", "stale", "retry"]
    retry: int = 0


@dataclass
class StepState:
    """A step of a recipe and its shards in the store."""

    name: str
    set: ShardSet
    was: SetInfo | None
    """What `set.json` says so far."""
    ancestors: tuple[StepState, ...]
    """The sets whose join the step reads, base first; empty for the source."""
    inputs_of: Mapping[str, Any]
    """What goes into each shard's fingerprint; None where an input shard is still to be made."""
    seen: dict[str, Committed] = field(default_factory=dict)
    """Valid ledgers as `refresh` found them."""
    todo: dict[str, Todo] = field(default_factory=dict)

    @property
    def info(self) -> SetInfo:
        return self.set.info

    @property
    def follows(self) -> list[str]:
        """Shards whose inputs are still to be made."""
        return [shard for shard, inputs in self.inputs_of.items() if inputs is None]

    @cached_property
    def joined(self) -> tuple[StepState, ...]:
        """The sets that a reader of this one joins, base first."""
        return (self,) if self.info.kind == "base" else (*self.ancestors, self)

    def refresh(self, retry: bool) -> None:
        """Find out which shards are there, from the names in the folder."""
        names = [name for name in map(parse_ledger_name, self.set.store.names()) if name]
        made = {name.shard for name in names}
        for shard, inputs in self.inputs_of.items():
            if inputs is None:
                continue
            fingerprint = shard_fingerprint(self.info.step_fingerprint, inputs)
            own = [name for name in names if name.shard == shard and name.fingerprint == fingerprint[:8]]
            if not own:
                self.todo[shard] = Todo(fingerprint, "stale" if shard in made else "new")
                continue
            newest = max(own, key=lambda name: name.retry)
            committed = self.set.committed(str(newest))
            self.seen[shard] = committed
            if retry and _num_failed(committed):
                self.todo[shard] = Todo(fingerprint, "retry", newest.retry + 1)

    def made(self, shard: str, committed: Committed) -> None:
        """Take note of a shard that was just committed."""
        self.seen[shard] = committed
        self.todo.pop(shard, None)

    def chain(self, shard: str) -> Chain:
        """Return the ledgers that are joined to read one shard of this set."""
        return chain_of([(state.set, state.seen[shard]) for state in self.joined])

    def digests(self, shard: str) -> list[str] | None:
        """Return the digests of the chain of one shard, or None where a part of it is still to be made."""
        if any(shard not in state.seen or shard in state.todo for state in self.joined):
            return None
        return [state.seen[shard].digest for state in self.joined]

    def reasons(self) -> list[str]:
        """Say why shards are stale."""
        stale = [shard for shard, todo in self.todo.items() if todo.why == "stale"]
        lines = differences(self.was.identity, self.info.identity) if self.was else []
        if stale and not lines:
            lines = ["sources were added, removed or changed" if self.name == RAW else f"{self.ancestors[-1].name} changed"]
        retried = sum(todo.why == "retry" for todo in self.todo.values())
        return lines + ([f"{retried} shards have failures to retry"] if retried else [])


@dataclass(frozen=True)
class RawState:
    """The source's own set, with the sources of each shard."""

    state: StepState
    entries: Mapping[str, Sequence[SourceEntry]]


def raw_state(recipe: Recipe, retry: bool) -> RawState:
    """List the source and compare it with `raw/`."""
    store = Store(recipe.output, recipe.settings.storage_options).at(RAW)
    was = read_info(store)
    known = _read_assignment(store, was)
    entries = list_source(recipe.source, exclude=(Store(recipe.output, recipe.settings.storage_options).url,))
    assigned = assign_shards(entries, known, recipe.source.samples_per_shard, recipe.source.shard_mib << 20)
    identity = {"format": FORMAT_VERSION, "source": "raw"}
    info = SetInfo(
        step=RAW,
        kind="base",
        step_fingerprint=digest(identity),
        identity=identity,
        parents=(),
        shards=tuple(assigned),
        assignment=was.assignment if was else None,
    )
    inputs = {shard: [entry.identity() for entry in entries] for shard, entries in assigned.items()}
    state = StepState(RAW, ShardSet(store, info), was, (), inputs)
    state.refresh(retry)
    return RawState(state, assigned)


def write_raw_info(raw: RawState) -> None:
    """Write which source lies in which shard, then `set.json`."""
    store = raw.state.set.store
    rows = [(shard, entry.key) for shard, entries in raw.entries.items() for entry in entries]
    sink = io.BytesIO()
    pq.write_table(pa.table({"shard": [shard for shard, _ in rows], "key": [key for _, key in rows]}), sink, compression="zstd")
    name = f"assignment-{digest(rows)[:12]}.parquet"
    old = raw.state.info.assignment
    if old != name:
        store.create_bytes(name, sink.getvalue())
        raw.state.set.info = SetInfo(**{**vars(raw.state.info), "assignment": name})
    write_info(store, raw.state.info)
    if old and old != name:
        store.remove(old)


def step_state(recipe: Recipe, step: Pass | Gather, parent: StepState, retry: bool) -> StepState:
    """Compare a pass or a select with its folder."""
    store = Store(recipe.output, recipe.settings.storage_options).at(step.name)
    ancestors = parent.joined
    planned = PlannedPass(step.name, step.stages) if isinstance(step, Pass) else None
    identity = pass_identity(step.stages, work_settings(recipe)) if isinstance(step, Pass) else gather_identity(step.does)
    shards = parent.info.shards
    info = SetInfo(
        step=step.name,
        kind="base" if planned and planned.is_base else "sidecar",
        step_fingerprint=digest(identity),
        identity=identity,
        parents=tuple(f"../{state.name}" for state in ancestors),
        shards=shards,
        adds=planned.adds if planned else {},
    )
    inputs: dict[str, Any] = {shard: parent.digests(shard) for shard in shards}
    if isinstance(step, Gather) and isinstance(step.does, Select) and step.does.is_global:
        whole = None if None in inputs.values() else inputs
        inputs = {shard: whole and [shard, whole] for shard in shards}
    state = StepState(step.name, ShardSet(store, info), read_info(store), ancestors, inputs)
    state.refresh(retry)
    return state


def work_settings(recipe: Recipe) -> WorkSettings:
    """Return the part of a recipe's settings that workers need."""
    s = recipe.settings
    return WorkSettings(threads=s.threads, decoder=s.decoder, on_corrupt=s.on_corrupt, memory_bytes=s.memory_bytes)


def _num_failed(committed: Committed) -> int:
    return committed.counts.get("input.failed", 0) + committed.counts.get("output.failed", 0)


def _read_assignment(store: Store, was: SetInfo | None) -> dict[str, list[str]]:
    if was is None or was.assignment is None or was.assignment not in store.names():
        return {}
    with store.blob(was.assignment).open() as file:
        table = pq.ParquetFile(file).read()
    assigned: dict[str, list[str]] = {}
    for shard, key in zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True):
        assigned.setdefault(shard, []).append(key)
    return assigned
