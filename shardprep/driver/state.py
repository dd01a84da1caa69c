"""The state of a step's shards: which are up to date, which must be made and why; read from names and `digests.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

from shardprep.core.code import changed_codes, codes_of
from shardprep.core.fingerprint import digest, input_of, shard_fingerprint
from shardprep.core.plan import PlannedPass
from shardprep.core.quantity import counted, was
from shardprep.driver.identity import differences, gather_identity, other_parents, pass_identity
from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack, Select
from shardprep.models.weights import digest_weights
from shardprep.packed.names import MANIFEST_FILE, is_packing_name
from shardprep.recipe.model import RAW, Gather, Pass, Recipe
from shardprep.runtime.task import WorkSettings
from shardprep.shards.counts import num_lost, num_outputs
from shardprep.shards.join import Chain, chain_of
from shardprep.shards.names import by_shard, parse_ledger_name
from shardprep.shards.set import Committed, SetInfo, ShardSet, read_info_to_replace
from shardprep.shards.store import Store


@dataclass(frozen=True)
class Todo:
    """A shard to make."""

    fingerprint: str
    why: Literal["new", "stale", "damaged", "retry", "redo"]
    earlier: tuple[str, ...] = ()
    """The shard's ledgers and tars that stand so far."""
    retry: int = 0
    """Number in the ledger's name, above those that stand: a name is never used twice, not for a damaged ledger either."""


@dataclass
class StepState:
    """A step of a recipe and its shards in the store."""

    name: str
    set: ShardSet
    was: SetInfo | None
    """What `set.json` says so far."""
    ancestors: tuple[StepState, ...]
    """The sets whose join the step reads, base first; empty for the source."""
    fingerprints: Mapping[str, str | None]
    """What each shard's ledger is to be named by; None where an input shard is still to be made."""
    seen: dict[str, Committed] = field(default_factory=dict)
    """Valid ledgers as `refresh` found them."""
    todo: dict[str, Todo] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    """Digests of the code of stages that are not shardprep's own, by name."""

    @property
    def info(self) -> SetInfo:
        return self.set.info

    @property
    def is_described(self) -> bool:
        """Whether `set.json` says already what this run would write; which file holds the assignment follows from the sources."""
        return self.was is not None and self.was == replace(self.info, assignment=self.was.assignment)

    @property
    def follows(self) -> list[str]:
        """Shards whose inputs are still to be made."""
        return [shard for shard, fingerprint in self.fingerprints.items() if fingerprint is None]

    @cached_property
    def joined(self) -> tuple[StepState, ...]:
        """The sets that a reader of this one joins, base first."""
        return (self,) if self.info.kind == "base" else (*self.ancestors, self)

    def refresh(self, *, retry: bool, redo: bool = False) -> None:
        """Find out which shards are there, from the names and sizes in the folder; those with failures are made again
        with `retry`, all of them with `redo`.
        """
        sizes = self.set.store.names() if self.set.listed is None else self.set.listed
        names = by_shard(sizes)
        for shard, fingerprint in self.fingerprints.items():
            if fingerprint is None:
                continue
            earlier = tuple(names.get(shard, ()))
            ledgers = list(filter(None, map(parse_ledger_name, earlier)))
            own = [name for name in ledgers if name.fingerprint == fingerprint[:8]]
            found = self.set.find(own, sizes, partial(_made_from_else, fingerprint))
            if found.newest is None:
                self.todo[shard] = Todo(fingerprint, "stale" if ledgers else "new", earlier)
                continue
            if found.current is None:
                self.todo[shard] = Todo(fingerprint, "damaged", earlier, found.newest.retry + 1)
                continue
            self.seen[shard] = found.current
            if redo or (retry and num_lost(found.current.counts, "failed")):
                self.todo[shard] = Todo(fingerprint, "redo" if redo else "retry", earlier, found.newest.retry + 1)

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

    def num_samples(self) -> dict[str, int]:
        """Return the number of samples that a reader of this set finds in each shard."""
        return {shard: num_outputs(self.seen[shard].counts) for shard in self.info.shards}

    def reasons(self) -> list[str]:
        """Say why shards are to be made again."""
        whys = Counter(todo.why for todo in self.todo.values())
        lines = differences(self.was.identity, self.info.identity) if self.was else []
        if whys["stale"] and not lines:
            lines = self._why_stale()
        if whys["damaged"]:
            lines.append(f"damaged: {counted(whys['damaged'], 'shard')}, as the ledger cannot be read, or the tar is missing or cut short")
        if whys["retry"]:
            lines.append(f"{counted(whys['retry'], 'shard')} with failures to retry")
        return lines

    def changed_code(self) -> list[str]:
        """Say which stages have other code than the one that made the shards that stand."""
        standing = [committed for shard, committed in self.seen.items() if shard not in self.todo]
        counts = Counter(name for committed in standing for name in changed_codes(committed.code, self.code))
        return [
            f"{name}: its code changed since {count} of {counted(len(standing), 'shard')} {was(count)} made; "
            f"raise version, or run with --redo {self.name}. Until then their old values stay"
            for name, count in counts.items()
        ]

    def _why_stale(self) -> list[str]:
        """Say why shards are stale though `set.json` says the same as the recipe: an earlier run may not have come to its end."""
        names = [name for name in map(parse_ledger_name, self.set.store.names()) if name and name.shard in self.todo]
        made = [self.set.readable(str(name)) for name in names if self.todo[name.shard].why == "stale"]
        alike = [committed is not None and committed.step_fingerprint == self.info.step_fingerprint for committed in made]
        lines = [] if all(alike) else ["made with earlier settings, which a run that did not end began to replace"]
        if any(alike):
            lines.append("sources were added, removed or changed" if self.name == RAW else self._why_other_inputs(made))
        return lines

    def _why_other_inputs(self, made: Sequence[Committed | None]) -> str:
        if self.was is not None and (other := other_parents(self.was.parents, self.info.parents)):
            return other
        # A run that did not end may have written the parents of now.
        if any(committed is not None and len(committed.inputs) != len(self.ancestors) for committed in made):
            return f"reads {self.ancestors[-1].name}, and was made from other steps"
        return f"{self.ancestors[-1].name} changed"


def _made_from_else(fingerprint: str, committed: Committed) -> str | None:
    return None if committed.fingerprint == fingerprint else "it was made from something else"


def step_state(
    recipe: Recipe,
    step: Pass | Gather,
    parent: StepState,
    *,
    retry: bool,
    redo: bool = False,
    weigh: Callable[[str], str] = digest_weights,
) -> StepState:
    """Compare a pass or a select with its folder; with `redo` all its shards are to be made again.

    `weigh` returns the digest of weights by name.
    """
    store = Store(recipe.output, recipe.settings.storage_options).at(step.name)
    ancestors = parent.joined
    planned = PlannedPass(step.name, step.stages) if isinstance(step, Pass) else None
    identity = pass_identity(step.stages, work_settings(recipe), weigh) if isinstance(step, Pass) else gather_identity(step.does)
    shards = parent.info.shards
    info = SetInfo(
        step=step.name,
        kind="base" if planned and planned.is_base else "sidecar",
        step_fingerprint=digest(identity),
        identity=identity,
        parents=tuple(f"../{state.name}" for state in ancestors),
        shards=shards,
        adds=planned.adds if planned else {},
        sees_all=isinstance(step, Gather) and isinstance(step.does, Select) and step.does.is_global,
    )
    digests = {shard: parent.digests(shard) for shard in shards}
    inputs = {shard: input_of(shard, digests, sees_all=info.sees_all) for shard in shards}
    fingerprints = {shard: None if read is None else shard_fingerprint(info.step_fingerprint, read) for shard, read in inputs.items()}
    was = read_info_to_replace(store)
    check_set_kind(store, was, packs=False)
    code = codes_of(step.stages) if isinstance(step, Pass) else {}
    state = StepState(step.name, ShardSet(store, info), was, ancestors, fingerprints, code=code)
    state.refresh(retry=retry, redo=redo)
    return state


def check_set_kind(store: Store, was: SetInfo | None, *, packs: bool) -> None:
    """Raise RecipeError where a step that packs would write over a set of another kind, or the other way round."""
    if was is not None and (was.kind == "packed") != packs and _holds(store, was):
        held = "a packed set" if was.kind == "packed" else "shards with ledgers"
        raise RecipeError(f"{store.url} holds {held}, which this step would not replace; give the step another name, or delete that folder")


def _holds(store: Store, info: SetInfo) -> bool:
    """Whether what a `set.json` says lies beside it; not so where that of another set has come into its place."""
    if info.kind == "packed":
        return store.size(MANIFEST_FILE) is not None or any(map(is_packing_name, store.folders()))
    return any(map(parse_ledger_name, store.names()))


def check_set_kinds(recipe: Recipe, until: str | None) -> None:
    """Raise what `check_set_kind` does for a step of a recipe, up to the one that the run ends with."""
    output = Store(recipe.output, recipe.settings.storage_options)
    for step in () if until == RAW else recipe.steps:
        store = output.at(step.name)
        check_set_kind(store, read_info_to_replace(store), packs=isinstance(step, Gather) and isinstance(step.does, Pack))
        if step.name == until:
            return


def work_settings(recipe: Recipe) -> WorkSettings:
    """Return the part of a recipe's settings that workers need."""
    s = recipe.settings
    return WorkSettings(
        threads=s.threads,
        decoder=s.decoder,
        on_corrupt=s.on_corrupt,
        memory_bytes=s.memory_bytes,
        timeout_seconds=s.timeout_seconds,
    )
